"""What a job depends on, kept and put back: generators and tensors in memory, checkpoints on disk."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bncli.code_hash import VERSION
from bncli.files import write_atomically

KEPT = 2
SCHEMA = 2  # of what a checkpoint holds; one of another is not used


class Checkpoints:
    """Files `STEP-DIGEST.pt` in a job's folder, each loadable with torch.load(weights_only=True).

    The digest in the name is of the content, so a file cut short or damaged is never trained on. Without a folder
    nothing is saved and nothing found. What went wrong is said in `notes`; training goes on.
    """

    def __init__(self, folder: Path | None, job: str) -> None:
        self._folder = folder
        self._origin = {"schema": SCHEMA, "job": job, "bncli": VERSION, "torch": str(torch.__version__)}
        self.notes: list[str] = []

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step`, whole or not at all, and forget all but the last two."""
        if self._folder is None:
            return
        buffer = io.BytesIO()
        torch.save({**self._origin, **state}, buffer)
        content = buffer.getvalue()
        try:
            self._write(self._folder, f"{step:012d}-{_digest(content)}.pt", content)
        except OSError as error:
            self._note(f"{self._folder}: cannot write a checkpoint ({error.strerror}); training goes on without it")

    def newest(self) -> dict[str, Any] | None:
        """The state of the last intact checkpoint of this job, on the CPU; None if there is none."""
        for path in reversed(self._files()):
            try:
                content = path.read_bytes()
                if not path.stem.endswith(f"-{_digest(content)}"):
                    raise ValueError("its content is damaged")
                state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                made = {key: state.get(key) for key in self._origin}
                if made != self._origin:
                    raise ValueError(f"made by {made}")
            except Exception as error:  # whatever is wrong with it, the one before is the way on
                self._note(f"{path}: checkpoint not used ({error}); training continues from the one before it")
            else:
                return state
        return None

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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


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
