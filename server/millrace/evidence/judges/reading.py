"""What an answer states, as far as it can be read without understanding it."""

import re
from collections.abc import Sequence
from functools import cached_property

from msgspec import Struct

from millrace.evidence.judges import code
from millrace.evidence.judges.lexicon import ABOUT, FUNCTION, NEGATIONS, NO, YES, refuses, yes_or_no
from millrace.evidence.judges.numbers import Number, numbers
from millrace.evidence.judges.plain import plain, without_numbering, words

_CAPITAL = re.compile(r"[^\W\d_](?:[\w'&-]*\w)?")
_SUBJECT = re.compile(
    r"((?:[^\W\d_a-z][\w'-]+\s){1,3})(?:is|was|are|were|has|ist|war|hat|est|était|a|es|fue|wrote|made|\w+ed)\b"
)
_SENTENCE_END = re.compile(r"(?:^|[.!?:\n])[\"'(\s]*$")
_GERMAN = frozenset(["der", "die", "das", "und", "ist", "nicht", "wird", "ein", "eine", "sie", "zu", "mit", "für"])
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[。！？])")
_SHORTEST_STEM = 5


def stem(word: str) -> str:
    """Return the beginning of a word, which its forms have in common, about."""
    if len(word) <= _SHORTEST_STEM:
        return word[:-1] if len(word) > 3 and word.endswith("s") else word  # noqa: PLR2004
    return word[: max(_SHORTEST_STEM, len(word) - 3)]


def differing(left: str, right: str) -> tuple[str, str]:
    """Return two answers without the sentences that both have: these say nothing of a difference."""
    if "```" in left or "```" in right:
        return left, right
    parts = [_SENTENCES.split(text.strip()) for text in (left, right)]
    both = {part.strip() for part in parts[0]} & {part.strip() for part in parts[1]}
    if not both:
        return left, right
    one, two = (" ".join(part for part in those if part.strip() not in both) for those in parts)
    return (one, two) if one.strip() and two.strip() else (left, right)


class Reading:
    """One answer. What takes time is read when it is first asked for."""

    def __init__(self, text: str) -> None:
        prose, self.blocks = code.parted(text)
        self.spans = code.spans(prose)
        self.prose = without_numbering(plain(prose))
        self.folded = self.prose.lower()
        self.words = words(self.folded)

    @cached_property
    def numbers(self) -> list[Number]:
        """Its numbers, in order."""
        return numbers(self.folded)

    @cached_property
    def content(self) -> list[str]:
        """The stems of its words that are neither function words nor numbers, in order."""
        return [
            stem(word)
            for word in self.words
            if word not in FUNCTION and word not in YES and word not in NO and not word[0].isdigit()
        ]

    @cached_property
    def capitals(self) -> frozenset[str]:
        """Its words with a capital, folded, wherever they are."""
        return frozenset(m[0].lower().removesuffix("'s") for m in _CAPITAL.finditer(self.prose) if m[0][0].isupper())

    @cached_property
    def first_subject(self) -> frozenset[str]:
        """The name with which it begins, as in "Sydney is the capital"; empty if it seems to be none."""
        match = _SUBJECT.match(self.prose)
        return frozenset(words(match[1].lower())) - FUNCTION - YES - NO if match else frozenset()

    @cached_property
    def names(self) -> frozenset[str]:
        """Its words that are written as names, folded; empty in German, where all nouns are."""
        if len(self.words) > 3 and not _GERMAN.isdisjoint(self.words):  # noqa: PLR2004
            return frozenset()
        found = set()
        for match in _CAPITAL.finditer(self.prose):
            if match[0][0].isupper() and (len(self.words) <= 3 or not self._begins(match.start())):  # noqa: PLR2004
                found.add(match[0].lower().removesuffix("'s"))
        return frozenset(name for name in found - FUNCTION - YES - NO if len(name) > 1)

    def _begins(self, at: int) -> bool:
        return _SENTENCE_END.search(self.prose, max(0, at - 4), at) is not None

    @cached_property
    def yes(self) -> bool | None:
        """Whether it begins with yes or with no."""
        return yes_or_no(self.folded, self.words[:4])

    @cached_property
    def refuses(self) -> bool:
        """Whether it gives no answer."""
        return refuses(self.folded)

    @cached_property
    def is_about(self) -> bool:
        """Whether it says that its numbers are rounded."""
        return ABOUT.search(self.folded) is not None

    def negations(self, within: int) -> int:
        """Return how many of its first words negate."""
        return sum(word in NEGATIONS for word in self.words[:within])


class OwnNumbers(Struct, frozen=True):
    """The numbers that only one of two answers has."""

    left: list[Number]
    right: list[Number]

    @property
    def may_contradict(self) -> bool:
        """Whether there are two that may measure the same thing."""
        return any(one.compares_with(two) for one in self.left for two in self.right)

    @property
    def contradict(self) -> bool:
        """Whether there are two with one unit, or both without any."""
        return any(one.is_like(two) for one in self.left for two in self.right)


def own_numbers(asked: Sequence[Number], left: Reading, right: Reading) -> OwnNumbers:
    """Return the numbers that only one of two answers has, and that are not from the question."""
    is_about = left.is_about or right.is_about
    return OwnNumbers(
        _without(left.numbers, right.numbers, asked, is_about=is_about),
        _without(right.numbers, left.numbers, asked, is_about=is_about),
    )


def _without(
    these: Sequence[Number], those: Sequence[Number], asked: Sequence[Number], *, is_about: bool
) -> list[Number]:
    return [
        one
        for one in these
        if not any(one.equals(two) or (is_about and one.compares_with(two) and one.is_near(two)) for two in those)
        and not any(one.equals(two) for two in asked)
    ]
