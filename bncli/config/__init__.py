"""From a preset's text to a validated Study."""

from bncli.config.asking import Bisect, Claim, Tune
from bncli.config.part import Part
from bncli.config.reading import read_study
from bncli.config.study import Evaluation, Study, Target, Training, Variant

__all__ = [
    "Bisect", "Claim", "Evaluation", "Part", "Study", "Target", "Training", "Tune", "Variant", "read_study",
]  # fmt: skip
