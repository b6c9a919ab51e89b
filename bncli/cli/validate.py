"""`bncli validate`: check presets without training."""

from typing import Annotated

import typer

from bncli.cli.completion import complete_preset
from bncli.cli.options import Plugins


def validate(
    presets: Annotated[list[str], typer.Argument(help="Presets' names or YAML files.", autocompletion=complete_preset)],
    plugin: Plugins = None,
) -> None:
    """Check presets and print every mistake with its line; exit 2 if there is one."""
    from bncli.config import Bench, read_preset
    from bncli.config.budget import count_runs
    from bncli.errors import ConfigError
    from bncli.plan import runs_of
    from bncli.plan.words import warnings_of
    from bncli.plugins import add_plugins
    from bncli.presets import preset_path
    from bncli.session.memory import check_memory
    from bncli.timing.cases import expand_cases

    add_plugins(plugin or ())
    wrong: list[str] = []
    for name in presets:
        try:
            preset = read_preset(preset_path(name))
        except ConfigError as error:
            wrong.append(str(error))
            continue
        if isinstance(preset, Bench):
            print(f"{name}: good ({len(expand_cases(preset, 'cpu'))} cases)")
            continue
        runs, searched = runs_of(preset, "cpu"), count_runs(preset)
        try:
            check_memory(runs, "cpu")
            if preset.any_search:
                from bncli.session.search import next_stage  # with scipy

                next_stage(preset, {}, "cpu")
        except ConfigError as error:
            wrong.append(f"{name}: {error}")
            continue
        before = f", after {searched - len(runs):,} or fewer of its search" if preset.any_search else ""
        print(f"{name}: good ({len(runs)} runs{before})")
        for warning in warnings_of(preset):
            print(f"{name}: warning: {warning}")
    if wrong:
        raise ConfigError(*wrong)
