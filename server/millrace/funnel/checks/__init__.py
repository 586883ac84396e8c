"""Checks of an answer, cheapest first: rules, what a request declares, the user's own, and a learned one."""

from millrace.funnel.checks.candidate import Candidate
from millrace.funnel.checks.checks import Checks
from millrace.funnel.checks.judge import judge, judge_beginning, selected
from millrace.funnel.checks.table import NAMES
from millrace.funnel.checks.words import prepare_openings

__all__ = ["NAMES", "Candidate", "Checks", "judge", "judge_beginning", "prepare_openings", "selected"]
