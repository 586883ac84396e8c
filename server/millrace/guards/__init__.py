"""Guards of the semantic cache: a near vector finds a candidate, these decide. Pure, and of no model."""

from millrace.guards.agreement import agree
from millrace.guards.question import Question
from millrace.guards.reference import self_contained

__all__ = ["Question", "agree", "self_contained"]
