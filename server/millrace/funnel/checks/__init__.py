"""Checks of an answer, cheapest first. `judge` stops at the first that fails."""

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.judge import judge, judge_beginning, selected
from millrace.funnel.checks.table import NAMES

__all__ = ["NAMES", "Candidate", "judge", "judge_beginning", "selected"]
