"""Guards of the semantic cache: vectors find candidates, these rules judge them. Pure functions of text, no model."""

from millrace.caches.guards.judgement import Judgement, Objection, agree, judge
from millrace.caches.guards.pairing import Pair, Pairing
from millrace.caches.guards.question import Question
from millrace.caches.guards.rule import Kind, Rule
from millrace.caches.guards.rules import RULES
from millrace.caches.guards.words import Word

__all__ = [
    "RULES",
    "Judgement",
    "Kind",
    "Objection",
    "Pair",
    "Pairing",
    "Question",
    "Rule",
    "Word",
    "agree",
    "judge",
]
