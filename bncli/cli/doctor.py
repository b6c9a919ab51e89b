"""`bncli doctor`: is this machine fit to measure on, and what to change."""

from bncli.cli.options import Json


def doctor(json: Json = None) -> None:
    """Say how fit this machine is to measure on: its state, its noise, its speed, and what to change."""
    from bncli.cli.output import stdout, write
    from bncli.engine.environment import device_count, environment
    from bncli.report.layout import say, wrapped
    from bncli.report.study.json import dumps
    from bncli.report.timing.table import build_document, describe_condition
    from bncli.timing.system import advise, examine

    condition = examine(device_count("cpu"))
    found, changes = environment("cpu"), list(advise(condition))
    if json:
        write(json, dumps(build_document(condition, found, changes)) + "\n", f"--json {json}")
    if json != "-":
        console = stdout()
        for label, value in describe_condition(condition, found):
            say(console, wrapped(f"{label:<15} {value}", console.width, " " * 16))
        say(console, "")
        for change in changes:
            say(console, wrapped(f"- {change}", console.width, "  "), "yellow")
        if not changes:
            say(console, "nothing to change")
