"""Checks of an answer, cheapest first. `judge` stops at the first that fails."""

from millrace.funnel.checks.judge import NAMES, Candidate, judge, judge_beginning, selected

__all__ = ["NAMES", "Candidate", "judge", "judge_beginning", "selected"]
