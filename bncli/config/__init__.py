"""From a preset's text to a validated Study or Bench."""

from pydantic import BaseModel

from bncli.config.asking import Bisect, StudyClaim, Tune
from bncli.config.bench import Bench, Grid, KernelClaim
from bncli.config.observed import ObservedStudy
from bncli.config.parts import Part
from bncli.config.reading import read_bench, read_preset, read_study
from bncli.config.recipe import Augmentation, Evaluation, Probes, Target, Training
from bncli.config.search import Search
from bncli.config.study import Study, Variant

__all__ = [
    "PRESETS",
    "Augmentation",
    "Bench",
    "Bisect",
    "Evaluation",
    "Grid",
    "KernelClaim",
    "ObservedStudy",
    "Part",
    "Probes",
    "Search",
    "Study",
    "StudyClaim",
    "Target",
    "Training",
    "Tune",
    "Variant",
    "read_bench",
    "read_preset",
    "read_study",
]  # fmt: skip

PRESETS: dict[str, type[BaseModel]] = {"study": Study, "bench": Bench, "observed": ObservedStudy}
"""Kinds of presets; an observed study is what `compare --from` makes up and `--set` changes."""
