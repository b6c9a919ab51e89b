"""The code that makes the numbers, as one hash: a gate trains again whatever other code has trained."""

import hashlib
from pathlib import Path

MAKERS = ("norms", "kernels", "models", "data", "optim", "engine")  # packages whose code a run's numbers follow from


def fingerprint(package: Path = Path(__file__).parent) -> str:
    """Hash of the Python files that a run's numbers follow from, and of their paths; 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(path for name in MAKERS for path in (package / name).rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
