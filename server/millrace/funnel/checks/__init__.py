"""Answer checks, cheapest first. `judge` stops at the first that fails."""

from millrace.funnel.checks.judge import NAMES, Candidate, asked, judge, judge_beginning

__all__ = ["NAMES", "Candidate", "asked", "judge", "judge_beginning"]
