"""A judge that compares what short answers state: numbers, names, dates, yes and no, opposites, code.

It says "different" of answers that contradict each other in these, "same" of those that state the same and little else,
and leaves all others to the next judge. It understands no language, so it would rather not tell.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from millrace.evidence.judges.code import Match, compared
from millrace.evidence.judges.lexicon import (
    ASKS_NAME,
    ASKS_NUMBER,
    ASKS_OR,
    ASKS_ORDER,
    ASKS_SEQUENCE,
    ENGLISH,
    HEDGES,
    NEGATIONS,
    NO,
    OPPOSITES,
    asks_yes_or_no,
)
from millrace.evidence.judges.numbers import numbers
from millrace.evidence.judges.plain import LONGEST, is_cjk, plain, words
from millrace.evidence.judges.reading import Reading, differing, own_numbers, stem
from millrace.types import Says

AT_ONCE = 1000  # characters of a question and two answers that are read on the loop: more takes up to a millisecond
SHORT = 30  # words of a short answer
ONE_FACT = 14  # words of an answer that states one fact, at most
_FEW = 3  # words in which two answers differ that are otherwise the same
_MOST_COMMON = 0.6  # share of words that such answers have in common
_COPIED = 0.8  # share of words that a copy has in common
_LITTLE_ELSE = 4  # words that an answer may add to what another one states
_JOINTS = frozenset(["and", "&", "or", "und", "oder", "et", "ou", "y", "o", "和", "与", "或"])
_TITLES = frozenset(
    ["dr", "prof", "professor", "mr", "mrs", "ms", "sir", "king", "queen", "president", "saint", "st", "herr"]
)
_ENGLISH = 0.1  # share of words that are common in English alone
_FEW_NAMES = 2  # words of a name
_RESTATED = 0.5  # share of the words of a question that an answer repeats


T = TypeVar("T")


class FactsJudge:
    """Compares what short answers state."""

    name = "facts"

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return whether both state the same facts."""
        if max(len(earlier), len(fresh)) > LONGEST:
            return Says.UNSURE
        async with self._one:  # each takes about a millisecond, and the loop has more to do than these
            await asyncio.sleep(0)
            return await of_pair(lambda pair: pair.says, question, earlier, fresh)


class Pair:
    """Two answers to one question."""

    def __init__(self, question: str, earlier: str, fresh: str) -> None:
        self.texts = differing(earlier, fresh)  # without the sentences that both have
        self.left, self.right = map(Reading, self.texts)
        self._asked = plain(question).lower()
        self._asked_words = frozenset(words(self._asked))
        self._asked_stems = frozenset(map(stem, self._asked_words))
        self._own_numbers = own_numbers(numbers(self._asked), self.left, self.right)
        left, right = Counter(self.left.words), Counter(self.right.words)
        self._only_left, self._only_right = list(left - right), list(right - left)
        self._common = sum((left & right).values())

    @property
    def says(self) -> Says:
        """What can be said of them."""
        if not all(answer.words or answer.blocks for answer in (self.left, self.right)):
            return Says.UNSURE
        if self.contradict:
            return Says.DIFFERENT
        return Says.SAME if self._agree and not self.is_doubtful else Says.UNSURE

    @property
    def contradict(self) -> bool:
        """Whether they contradict each other."""
        if self.left.refuses or self.right.refuses:
            other = self.right if self.left.refuses else self.left
            return not (self.left.refuses and self.right.refuses) and not other.negations(SHORT)
        if self.left.blocks or self.right.blocks:
            return self._code is Match.OTHER
        return self._yes_against_no or self._nearly_alike_contradict or self._short_contradict

    @property
    def is_doubtful(self) -> bool:
        """Whether there is something in which they may contradict each other, whatever else they have in common."""
        if self._own_numbers.may_contradict or self.left.refuses != self.right.refuses:
            return True
        if self.left.refuses:
            return False
        if self._code not in (None, Match.EQUAL) or self._is_reordered or self._is_edited_copy:
            return True
        left, right = (self._polarity(answer) for answer in (self.left, self.right))
        if left is not None and right is not None:
            return left != right
        return self.is_short and (self._has_opposites or self._is_negated_otherwise)

    @property
    def adds_numbers(self) -> bool:
        """Whether one of them has a number that the other one lacks."""
        return bool(self._own_numbers.left or self._own_numbers.right)

    @property
    def adds_names(self) -> bool:
        """Whether one of them has a name that the other one lacks."""
        return bool((self.left.names ^ self.right.names) - self._asked_words)

    @property
    def has_cjk(self) -> bool:
        """Whether something is in Chinese, Japanese or Korean."""
        return any(is_cjk(word) for answer in (self.left, self.right) for word in answer.words)

    @property
    def has_words_replaced(self) -> bool:
        """Whether they are the same but for a few words that stand in place of others."""
        return self._nearly_alike and bool(self._only_left) and bool(self._only_right)

    @property
    def is_english(self) -> bool:
        """Whether both seem to be in English."""
        return all(
            sum(word in ENGLISH for word in answer.words) > _ENGLISH * len(answer.words)
            for answer in (self.left, self.right)
        )

    @property
    def same_polarity(self) -> bool:
        """Whether both begin with yes, or both with no."""
        return self.left.yes is not None and self.left.yes == self.right.yes

    @property
    def is_short(self) -> bool:
        """Whether both are short."""
        return self._longest <= SHORT

    @property
    def shortest(self) -> int:
        """The words of the shorter one."""
        return min(len(self.left.words), len(self.right.words))

    @property
    def _longest(self) -> int:
        return max(len(self.left.words), len(self.right.words))

    @property
    def _is_negated_otherwise(self) -> bool:
        return not NEGATIONS.isdisjoint((*self._only_left, *self._only_right))

    @property
    def _is_edited_copy(self) -> bool:
        """Whether one is a copy of the other in which something may have been changed that matters."""
        if self._longest <= SHORT // 2 or self._common < _COPIED * self._longest:
            return False
        left, right = self.left, self.right
        is_negated = left.negations(len(left.words)) != right.negations(len(right.words))
        if is_negated or self._own_numbers.left or self._own_numbers.right or self._has_opposites:
            return True
        kept = frozenset(left.content).intersection(right.content)
        one, two = ([word for word in answer.content if word in kept] for answer in (left, right))
        return sorted(one) == sorted(two) and one != two

    @property
    def _yes_against_no(self) -> bool:
        if ASKS_OR.search(self._asked):
            return False
        left, right = self._polarity(self.left), self._polarity(self.right)
        return left is not None and right is not None and left != right

    def _polarity(self, answer: Reading) -> bool | None:
        """Return whether an answer means yes or no: it begins so, or it restates the question, or the opposite."""
        if answer.yes is not None:
            return answer.yes
        is_plain = HEDGES.isdisjoint(answer.words) and NO.isdisjoint(answer.words)
        if not asks_yes_or_no(self._asked) or len(answer.words) > SHORT or not is_plain:
            return None
        is_opposite = any(
            word not in answer.words and not OPPOSITES[word].isdisjoint(answer.words)
            for word in self._asked_words & OPPOSITES.keys()
        )
        content = {word for word in map(stem, self._asked_words) if len(word) > _FEW or is_cjk(word)}
        restated = len(content.intersection(answer.content)) + is_opposite
        if restated < _RESTATED * len(content) or restated < 1:
            return None
        return bool(answer.negations(SHORT) % 2) == is_opposite

    @property
    def _code(self) -> Match | None:
        """How the code of both compares; None without any."""
        left, right = self.left.blocks, self.right.blocks
        if not left and not right:
            return None
        if len(left) != len(right):
            return Match.UNKNOWN
        found = [compared(one, two) for one, two in zip(left, right, strict=True)]
        if all(match is Match.EQUAL for match in found):
            return Match.EQUAL
        # Of several blocks one may be an example.
        return Match.OTHER if found == [Match.OTHER] else Match.UNKNOWN

    @property
    def _nearly_alike(self) -> bool:
        """Whether they are the same but for a few words."""
        few = max(len(self._only_left), len(self._only_right)) <= _FEW
        return few and self._common >= max(_FEW, _MOST_COMMON * self._longest)

    @property
    def _has_opposites(self) -> bool:
        return any(not OPPOSITES.get(word, frozenset()).isdisjoint(self._only_right) for word in self._only_left)

    @property
    def _nearly_alike_contradict(self) -> bool:
        if not self._nearly_alike:
            return False
        if self._own_numbers.may_contradict or self._has_opposites:
            return True
        left, right = self._only_left, self._only_right
        negated = [NEGATIONS.intersection(own) for own in (left, right)]
        if bool(negated[0]) != bool(negated[1]) and max(len(left), len(right)) <= 1 and not self.same_polarity:
            return True
        names = self.left.names.intersection(left), self.right.names.intersection(right)
        if all(names) and not _alike(*names):
            return True
        replaces = 0 < len(left) == len(right) <= _FEW_NAMES
        if replaces and self._are_lists and ASKS_NAME.search(self._asked) and not self._own_numbers.left:
            return self._common >= _MOST_COMMON * self._longest and not left[0].startswith(right[0][:3])
        return False

    @property
    def _short_contradict(self) -> bool:
        """Whether they state one fact each, and another one."""
        if not self.is_short:
            return False
        if self._own_numbers.contradict and (
            len(self.left.numbers) == len(self.right.numbers) or not self._share_numbers
        ):
            return True
        if ASKS_SEQUENCE.search(self._asked) and self._is_reordered and self._has_items:
            return True
        if self._other_command:
            return True
        return self._longest <= ONE_FACT and ASKS_NAME.search(self._asked) is not None and self._other_name

    @property
    def _has_items(self) -> bool:
        """Whether both are lists of three or more."""
        return all(max(answer.prose.count(","), answer.prose.count("\n")) > 1 for answer in (self.left, self.right))

    @property
    def _other_command(self) -> bool:
        """Whether one sentence names two commands that differ in what the program is given."""
        left, right = self.left.spans, self.right.spans
        if len(left) != 1 or len(right) != 1 or left == right or self._longest > ONE_FACT:
            return False
        prose = [answer.folded.replace(answer.spans[0].lower(), "") for answer in (self.left, self.right)]
        one, two = left[0].split(), right[0].split()
        return prose[0] == prose[1] and one[0] == two[0] and len(one) == len(two)

    @property
    def _share_numbers(self) -> bool:
        return any(one.equals(two) for one in self.left.numbers for two in self.right.numbers)

    @property
    def _other_name(self) -> bool:
        """Whether they name one thing each, and another one."""
        if self._share_numbers:
            return False
        names = [(answer.names | answer.first_subject) - self._asked_words for answer in (self.left, self.right)]
        own = [names[0] - _TITLES - set(self.right.words), names[1] - _TITLES - set(self.left.words)]
        if all(own) and (names[0].isdisjoint(names[1]) or len(own[0]) == len(own[1])) and not _alike(*own):
            return True
        rest = [
            [word for word in answer.content if word not in self._asked_stems] for answer in (self.left, self.right)
        ]
        if not all(rest) or not set(rest[0]).isdisjoint(rest[1]):
            return False
        if all(is_cjk(word) for words in rest for word in words):
            return max(map(len, rest)) <= _FEW
        capitals = [frozenset(map(stem, answer.capitals)) for answer in (self.left, self.right)]
        are_names = all(len(words) <= _FEW_NAMES and set(words) <= capitals[at] for at, words in enumerate(rest))
        return are_names and not _alike(frozenset(rest[0]), frozenset(rest[1]))

    @property
    def _is_reordered(self) -> bool:
        """Whether they have the same words in another order, as in "A beats B", and are no lists."""
        if not self._nearly_alike or self._are_lists:
            return False
        kept = frozenset(self.left.content).intersection(self.right.content)
        if len(kept - self._asked_stems) <= 1 and ASKS_NAME.search(self._asked) and not ASKS_OR.search(self._asked):
            return False  # "Canberra is the capital", "the capital is Canberra"
        left, right = ([word for word in answer.content if word in kept] for answer in (self.left, self.right))
        # "Press it to start", "to start, press it"
        return len(left) != len(right) or all(left[at:] + left[:at] != right for at in range(len(left)))

    @property
    def _are_lists(self) -> bool:
        """Whether both are lists whose order does not matter."""
        if ASKS_ORDER.search(self._asked):
            return False
        return all(
            "," in answer.prose or "\n" in answer.prose or not _JOINTS.isdisjoint(answer.words)
            for answer in (self.left, self.right)
        )

    @property
    def _agree(self) -> bool:
        """Whether short answers state the same and little else."""
        left, right = self.left, self.right
        if self._code is not None:
            return self._code is Match.EQUAL and len(left.words) + len(right.words) <= SHORT
        if not self.is_short or self.adds_numbers or set(left.spans) != set(right.spans):
            return False
        states_one = (left.spans and self._longest <= ONE_FACT) or (
            left.numbers and right.numbers and ASKS_NUMBER.search(self._asked)
        )
        if states_one or (left.refuses and right.refuses):
            return True
        one, two = ([word for word in answer.content if word not in self._asked_stems] for answer in (left, right))
        if set(one) == set(two):
            has_any = bool(one or left.numbers or left.yes is not None)
            return has_any and (one == two or self._are_lists)
        return self._covers(left, one, two) or self._covers(right, two, one)

    def _covers(self, shorter: Reading, few: list[str], more: list[str]) -> bool:
        """Whether the shorter answer is all that the longer one states."""
        longer = self.right if shorter is self.left else self.left
        extra = set(more) - set(few)
        if not set(few) <= set(more) or len(extra) > _LITTLE_ELSE:
            return False
        names = shorter.names - self._asked_words
        same_polarity = shorter.yes is not None and shorter.yes == longer.yes
        if not (shorter.numbers or shorter.spans or names or same_polarity):
            return False
        if not same_polarity and not NEGATIONS.isdisjoint(longer.words):
            return False
        adds_names = not extra.isdisjoint(map(stem, longer.names))
        if adds_names and not (names and self._longest <= ONE_FACT and ASKS_NAME.search(self._asked)):
            return False
        joined = _JOINTS.intersection(longer.words) - frozenset(shorter.words)
        return not joined or bool(shorter.numbers)


def _alike(left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether names may be one: "UN" and "United Nations", or two spellings."""
    one, two = " ".join(sorted(left)), " ".join(sorted(right))
    for short, names in ((one, right), (two, left)):
        initials = sorted(name[0] for name in names)
        if len(initials) > 1 and sorted(short.replace(".", "")) == initials:
            return True
    return min(len(one), len(two)) <= 2 or one[:4] == two[:4]  # noqa: PLR2004 - letters


async def of_pair(work: Callable[[Pair], T], question: str, earlier: str, fresh: str) -> T:
    """Return what is found of two answers: in a thread if they are long. No more of a question is read than of them."""
    question = question[:LONGEST]
    if len(question) + len(earlier) + len(fresh) <= AT_ONCE:
        return work(Pair(question, earlier, fresh))
    return await asyncio.to_thread(lambda: work(Pair(question, earlier, fresh)))
