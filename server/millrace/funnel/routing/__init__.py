"""The choice of a strategy: is a request easy, unsure or hard."""

from millrace.funnel.routing.prior import Judgement, judge

__all__ = ["Judgement", "judge"]
