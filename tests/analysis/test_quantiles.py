"""Quantiles of our own against scipy's, over all sizes of study."""

import subprocess
import sys
from itertools import product

import pytest
from scipy.special import betaincinv, betaln, stdtrit

from bncli.analysis.quantiles import beta_quantile, log_beta, t_quantile

SIZES = [0.5, 1, 1.5, 3, 5, 10.5, 30, 200, 1_000, 10_000]


@pytest.mark.parametrize("p", [1e-6, 1e-4, 0.005, 0.025, 0.2, 0.5, 0.8, 0.95, 0.975, 0.9999])
def test_quantiles_of_the_beta_distribution_are_scipys(p: float) -> None:
    for a, b in product(SIZES, SIZES):
        assert beta_quantile(a, b, p) == pytest.approx(float(betaincinv(a, b, p)), rel=1e-9, abs=1e-300), (a, b)
        assert log_beta(a, b) == pytest.approx(float(betaln(a, b)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("p", [0.501, 0.6, 0.74, 0.76, 0.8, 0.9, 0.95, 0.975, 0.995, 0.99999])
def test_quantiles_of_t_are_scipys(p: float) -> None:
    for freedom in (1, 2, 3, 4, 7, 10, 30, 100, 1_000, 9_999):
        assert t_quantile(freedom, p) == pytest.approx(float(stdtrit(freedom, p)), rel=1e-9), freedom


def test_a_table_of_runs_that_are_stored_needs_no_scipy() -> None:
    script = (
        "import sys\nimport numpy as np\nimport bncli.session.analysis\n"
        "from bncli.analysis.stats import mean_interval, share_interval\n"
        "mean_interval(np.arange(5.0)), share_interval(3, 5)\n"
        "print([name for name in ('scipy', 'torch', 'numpy.random', 'numpy.ma') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
