"""Which device `auto` means, without an import of torch where nothing but a CPU can be meant."""

import sys
from pathlib import Path

import pytest

from bncli.engine import environment


@pytest.mark.skipif(sys.platform != "linux", reason="torch is asked there")
@pytest.mark.parametrize(
    ("build", "files", "asks"),
    [
        ("2.13.0", ["nvme0", "nvram", "tty"], False),
        ("2.13.0", ["nvidia0", "nvidiactl"], True),
        ("2.13.0", ["nvhost-gpu"], True),
        ("2.13.0+rocm7", ["kfd"], True),
        ("2.13.0+cpu", ["nvidia0"], False),
    ],
)
def test_torch_is_asked_for_a_gpu_only_where_there_may_be_one(
    build: str, files: list[str], asks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setattr(environment, "version", lambda package: build)
    monkeypatch.setattr(environment, "Path", lambda place: tmp_path)
    assert environment.may_have_gpu() == asks


def test_what_is_stored_of_the_environment_has_no_class_of_torchs() -> None:
    assert {type(value) for value in environment.environment("cpu").values()} <= {str, int}
