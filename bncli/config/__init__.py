"""From a preset's text to a validated Study."""

from bncli.config.parts import Evaluation, Part, Probes, Target, Training
from bncli.config.reading import read_study
from bncli.config.study import Study, Variant

__all__ = ["Evaluation", "Part", "Probes", "Study", "Target", "Training", "Variant", "read_study"]
