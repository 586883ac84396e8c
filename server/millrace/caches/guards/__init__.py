"""Guards of the semantic cache: vectors find candidates, these rules decide. Pure functions of text, no model."""

from millrace.caches.guards.agreement import agree
from millrace.caches.guards.question import Question

__all__ = ["Question", "agree"]
