"""Where a number was made: versions, processor, threads; and which device `auto` means."""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from bncli.code_hash import VERSION, own_code
from bncli.errors import ConfigError

# of NVIDIA's driver, on a card and on its boards; of Windows' Linux; of AMD's driver
GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as mallopt calls what it sets


def keep_freed_memory() -> None:
    """Have glibc keep up to 2 GB of what this process frees, for its next tensors; elsewhere nothing is done.

    By its own rules blocks of megabytes are given back or kept by the luck of a process's history: of equal runs of 200
    to 300 steps of a small image network some took 30,000 page faults and some 400,000 to 1,400,000, a tenth to a third
    of their processor time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 2**25)  # bytes; no higher one is allowed
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def resolve_device(wanted: str) -> str:
    """The device that `wanted` (auto, cpu, cuda, mps) means on this machine; imports torch only if it has to.

    Raises:
        ConfigError: if the device asked for is not there.
    """
    if wanted == "cpu" or (wanted == "auto" and not may_have_gpu()):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next((name for name, found in there.items() if found), "cpu")
    if not there[wanted]:
        raise ConfigError(f"--device {wanted}: torch {torch.__version__} sees no such device here; use auto or cpu")
    return wanted


def may_have_gpu() -> bool:
    """Whether torch is to be asked for a GPU: not if it was built without, or if Linux has no device file of any."""
    if version("torch").endswith("+cpu"):
        return False
    return sys.platform != "linux" or any(any(Path("/dev").glob(name)) for name in GPU_FILES)


def device_count(device: str) -> int:
    """How many workers `device` feeds: one a core, or one a GPU."""
    if device != "cuda":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import torch

    return torch.cuda.device_count()


def memory_of(device: str) -> int:
    """Bytes of memory that a device has, used or not; of a machine, what its container may take; 0 if unknown."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_properties(0).total_memory
    found = []
    with suppress(AttributeError, ValueError, OSError):  # Windows
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no container, or no limit
            found.append(int((Path("/sys/fs/cgroup") / limit).read_text()))
    return min(found, default=0)


@cache
def describe_software() -> dict[str, str]:
    """What a run's numbers follow from beside its id, as every worker must have it; a build for a GPU is the same."""
    versions = {name: version(name).partition("+")[0] for name in ("torch", "numpy")}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"bncli": VERSION, "the code of bncli": own_code(), **versions, "Python": python}


@cache
def environment(device: str) -> dict[str, Any]:
    """The fingerprint stored with every run."""
    import torch

    return {
        "bncli": VERSION,
        "torch": str(torch.__version__),  # a class of torch otherwise, which whoever reads a result would import
        "python": platform.python_version(),
        "machine": platform.node(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def peak_memory(device: str) -> int:
    """Bytes that this process has held at most: on the GPU, or else in memory; 0 where nothing counts them."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class JobMemory:
    """The most memory that a job holds, from when this is made on.

    Linux forgets a process's peak on request, CUDA its allocator's. Elsewhere only what is more than was ever held
    before is known to be the job's.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._device, self._forgot = device, device == "cuda"
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
                self._forgot = bool(_high_water())
        self._before = peak_memory(device)

    def peak(self) -> int:
        """Bytes; 0 where they cannot be told from what was held before."""
        if self._forgot:
            return peak_memory(self._device) if self._device == "cuda" else _high_water()
        peak = peak_memory(self._device)
        return peak if peak > self._before else 0


def _high_water() -> int:
    """Bytes of memory that this process held at most since that was last forgotten, as Linux says; else 0."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
