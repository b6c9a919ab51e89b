"""What a job depends on, kept and put back: generators and tensors in memory, checkpoints on disk."""

import io
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bncli.code_hash import VERSION, fingerprint
from bncli.files import CHECKPOINT_BYTES, describe_failure, digest_checkpoint, read_bytes, set_aside, write_atomically

KEPT = 2
SCHEMA = 4  # of what a checkpoint holds; one of another is not used
ASIDE = "set-aside"  # a folder beside what could not be used, which goes with the job's checkpoints


class Checkpoints:
    """Files `STEP-DIGEST.pt` in a job's folder, each loadable with torch.load(weights_only=True).

    The digest in the name is of the content, so a file cut short or damaged is never trained on; what it holds says by
    which job, which code of bncli and which torch it was made. One that is not used is set aside, so that it is looked
    at once. Without a folder nothing is saved and nothing found. What went wrong is said in `notes`; training goes on.
    """

    def __init__(self, folder: Path | None, job: str) -> None:
        self._folder = folder
        self._origin = {
            "schema": SCHEMA, "job": job, "bncli": VERSION, "torch": str(torch.__version__), "code": fingerprint(),
        }  # fmt: skip
        self.notes: list[str] = []

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step`, whole or not at all, and forget all but the last two."""
        if self._folder is None:
            return
        buffer = io.BytesIO()
        torch.save({**self._origin, **state}, buffer)
        content = buffer.getvalue()
        try:
            self._write(self._folder, f"{step:012d}-{digest_checkpoint(content)}.pt", content)
        except OSError as error:
            self._note(f"{self._folder}: cannot write a checkpoint ({error.strerror}); training goes on without it")

    def resume(self, restore: Callable[[dict[str, Any]], None]) -> bool:
        """Hand the last checkpoint that can be used to `restore`, on the CPU; False if there is none.

        Args:
            restore: puts a state back; raises whatever it likes if it does not fit.
        """
        self._refuse_link()
        files = self._files()
        while files:
            path = files.pop()
            try:
                content = read_bytes(path, CHECKPOINT_BYTES)
                if not path.stem.endswith(f"-{digest_checkpoint(content)}"):
                    raise ValueError("its content is damaged")
                state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                self._check_origin(state)
                restore(state)
            except FileNotFoundError:  # another process trains the same job
                continue
            except Exception as error:  # whatever is wrong with it, the one before is the way on
                way_on = "training continues from the one before it" if files else "training starts again"
                self._note(f"{path}: checkpoint not used ({describe_failure(error)}){_move_away(path)}; {way_on}")
            else:
                return True
        return False

    def _check_origin(self, state: Mapping[str, Any]) -> None:
        differing = [f"{key} {state.get(key)!r}" for key, own in self._origin.items() if state.get(key) != own]
        if differing == [f"code {state.get('code')!r}"]:
            raise ValueError("bncli's code has changed since")
        if differing:
            raise ValueError(f"made by {', '.join(differing)}")

    def _refuse_link(self) -> None:
        """Set a link in the place of the job's folder aside: what it leads to is not this job's."""
        if self._folder is not None and self._folder.is_symlink():
            try:
                set_aside(self._folder, self._folder.parent / ASIDE)
                self._note(f"{self._folder}: a link is not followed; it was set aside, training starts again")
            except OSError as error:
                self._note(f"{self._folder}: a link is not followed ({error.strerror}); delete it")
                self._folder = None

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.pt")) if self._folder else []

    def _write(self, folder: Path, name: str, content: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, content)
        for old in self._files()[:-KEPT]:
            old.unlink(missing_ok=True)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _move_away(path: Path) -> str:
    try:
        set_aside(path, path.parent / ASIDE)
    except OSError as error:
        return f" and could not be set aside ({error.strerror}): delete it"
    return " and set aside"


def check_form(form: Any, found: Any, place: str = "") -> None:
    """Pass if a tree of tensors and plain values is of the form of another: keys, lengths, shapes, dtypes, types.

    Raises:
        ValueError: that names the first place where it is not.
    """
    if isinstance(form, Tensor):
        expected, got = ((tuple(t.shape), t.dtype) if isinstance(t, Tensor) else type(t) for t in (form, found))
        if expected != got:
            raise ValueError(f"{place or 'it'} is {got}, expected {expected}")
    elif isinstance(form, Mapping):
        if not isinstance(found, Mapping) or form.keys() != found.keys():
            raise ValueError(f"{place or 'it'} has other keys")
        for key, part in form.items():
            check_form(part, found[key], f"{place}.{key}".strip("."))
    elif isinstance(form, list | tuple):
        if not isinstance(found, list | tuple) or len(form) != len(found):
            raise ValueError(f"{place or 'it'} has another length")
        for i, part in enumerate(form):
            check_form(part, found[i], f"{place}[{i}]")
    elif type(form) is not type(found):
        raise ValueError(f"{place or 'it'} is {found!r}, expected one of type {type(form).__name__}")


@torch.no_grad()
def copy_into(target: Any, source: Any) -> None:
    """Copy the numbers of a tree of tensors into another of the same form."""
    if isinstance(target, Tensor):
        target.copy_(source)
        return
    for key in target if isinstance(target, Mapping) else range(len(target)):
        copy_into(target[key], source[key])


@contextmanager
def noise_kept(device: str) -> Iterator[None]:
    """Put the generators back as they were, so that what is drawn meanwhile shifts nothing in training."""
    states = noise(device)
    try:
        yield
    finally:
        put_noise(device, states)


def noise(device: str) -> list[Tensor]:
    """The states of the global generators that training on `device` draws from."""
    more = {"cuda": torch.cuda.get_rng_state, "mps": torch.mps.get_rng_state}
    return [torch.get_rng_state(), *(more[device]() for _ in range(device in more))]


def put_noise(device: str, states: list[Tensor]) -> None:
    """Put them back as `noise` gave them."""
    more = {"cuda": torch.cuda.set_rng_state, "mps": torch.mps.set_rng_state}
    torch.set_rng_state(states[0])
    if device in more:
        more[device](states[1])


@contextmanager
def tensors_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Put every tensor's numbers back as they were."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, old in kept:
                tensor.copy_(old)


@contextmanager
def globals_kept() -> Iterator[None]:
    """Put back what somebody's loop may set for the whole process: generators, folder, paths, ways to compute."""
    python, array = random.getstate(), np.random.get_state()
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    strict, errors = torch.are_deterministic_algorithms_enabled(), np.geterr()
    place, paths = Path.cwd(), [*sys.path]
    try:
        yield
    finally:
        os.chdir(place)
        sys.path[:] = paths
        np.seterr(**errors)
        random.setstate(python)
        np.random.set_state(array)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.use_deterministic_algorithms(strict)
        if torch.get_default_device() != device:
            torch.set_default_device(device)


@contextmanager
def computing_alike(asked: bool) -> Iterator[None]:
    """Take those of a GPU's algorithms that give equal bits each time, where torch has some; a warning names others."""
    if not asked or not torch.cuda.is_available():
        yield
        return
    memory: Any = torch.utils.deterministic
    strict, lenient = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = memory.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS asks for it, before its first product
    try:
        memory.fill_uninitialized_memory = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=lenient)
        memory.fill_uninitialized_memory = filled


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Keep a GPU's products and convolutions in float32 unless tf32 is asked for: torch takes it for convolutions."""
    if not torch.cuda.is_available():
        yield
        return
    places: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = precision == "tf32"
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed
