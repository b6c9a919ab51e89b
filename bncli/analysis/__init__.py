"""From records to findings: measures of runs, paired inference, and what may be said of them."""

from bncli.analysis.readers import ArmRuns, Ask
from bncli.analysis.study import analyse

__all__ = ["ArmRuns", "Ask", "analyse"]
