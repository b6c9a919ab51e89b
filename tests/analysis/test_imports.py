"""What the analysis loads."""

import subprocess
import sys


def test_the_analysis_loads_neither_torch_nor_scipy_stats():
    code = "import sys, bncli.analysis; print(*sorted({'torch', 'scipy.stats', 'pandas', 'rich'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == []
