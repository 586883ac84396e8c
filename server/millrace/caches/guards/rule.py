"""What a rule is: it objects to serving the answer of one question for another.

A *hard* objection is never overruled. A *soft* one is evidence for the decision. The reason is what users read; the
words of both sides follow it. The examples are tested one by one: of `objects` the rule must object to each pair, of
`agrees` to none.
"""

from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from millrace.caches.guards.pairing import Pairing
from millrace.caches.guards.question import Question
from millrace.caches.guards.said import Said

Example = tuple[str, str]


class Kind(StrEnum):
    """Whether the decision may overrule an objection."""

    HARD = "hard"
    SOFT = "soft"


class TextRule(Struct, frozen=True):
    """A hard rule that needs no pairing of words, and so comes first."""

    name: str
    reason: str
    check: Callable[[Question, Question], Said | None]
    objects: tuple[Example, ...]
    agrees: tuple[Example, ...]
    kind: Kind = Kind.HARD


class WordRule(Struct, frozen=True):
    """A rule on the words that two texts share, and on those that they do not."""

    name: str
    kind: Kind
    reason: str
    check: Callable[[Question, Question, Pairing], Said | None]
    objects: tuple[Example, ...]
    agrees: tuple[Example, ...]


Rule = TextRule | WordRule
