"""The checks are imported as a module of their own, as the script beside them does it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
