"""Finds presets by name or path; light, so that a mistyped name is answered at once."""

from pathlib import Path

from bncli.errors import ConfigError, expect_text, typed_path, unknown


def preset_folder() -> Path:
    """Where the shipped presets lie: in the installed package, or beside it in a checkout."""
    packed = Path(__file__).parent / "presets"
    return packed if packed.is_dir() else packed.parent.parent / "presets"


def preset_names() -> list[str]:
    """The names of the shipped presets."""
    return sorted(path.stem for path in preset_folder().glob("*.yaml"))


def preset_path(name: str) -> Path:
    """The file behind a preset's name or path.

    Raises:
        ConfigError: if there is no such preset or file.
    """
    expect_text("a shipped preset's name or a YAML file", preset=name)
    if name in preset_names():
        return preset_folder() / f"{name}.yaml"
    path = typed_path(name)
    if path.is_dir():
        raise ConfigError(f"{name}: is a directory, expected a YAML preset")
    if path.exists():
        return path
    if path.suffix in (".yaml", ".yml") or "/" in name:
        raise ConfigError(f"{name}: no such file")
    raise ConfigError(unknown("preset", name, preset_names()) + " and no such file exists")
