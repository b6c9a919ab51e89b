"""Training loops: bncli has none but its own engine's; `--task FILE.py:NAME` and plug-ins add rows.

A row's target is a function of `run` (`engine/task.py`) and of its options by keyword. It trains by itself, and yields
`{"step": 100, "accuracy": 0.81, ...}` whenever it has measured something.
"""

from bncli.catalogue import Catalogue, Row

TASKS: Catalogue[Row] = Catalogue("task", {})
