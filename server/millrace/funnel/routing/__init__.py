"""Easy, unsure or hard? Who should be asked first."""

from millrace.funnel.routing.prior import Judgement, judge

__all__ = ["Judgement", "judge"]
