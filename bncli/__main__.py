"""`python -m bncli`, and the script `bncli`."""

import gc


def main() -> None:
    """Run the command line; while it is imported nothing becomes garbage, and looking for it takes 6 % of `--help`."""
    gc.disable()
    from bncli.cli import main as run

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
