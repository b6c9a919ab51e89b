"""How long the light commands take, in units of importing typer, rich and yaml; a table, or --json."""

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "base": ["-c", "import typer, rich, yaml"],
    "help": ["-m", "bncli", "--help"],
    "unknown_preset": ["-m", "bncli", "compare", "nonsense"],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rounds = [{name: seconds(arguments) for name, arguments in COMMANDS.items()} for _ in range(options.rounds)]
    figures = {}
    for name in ("help", "unknown_preset"):
        ratios = [r[name] / r["base"] for r in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4)
        figures[name] = {"value": middle, "low": low, "high": high, "unit": "times the imports", "goal": 2.5}
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:16} {figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}] (goal: at most 2.5)")


if __name__ == "__main__":
    main()
