"""What is asked, and the truth of it: a fact of two words that no other question has, as the large model gives it."""

import json
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from random import Random
from typing import Any

from millrace.simulator import prose
from millrace.simulator.book import UNFOUNDED
from tests.savings.mix import Mix
from tests.support.paths import REPOSITORY

_WORDS: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "words.toml").read_text("utf-8"))
UNSURE = ("I'm not sure.", "I don't know the answer to that.", "I'm not sure how to work that out.")
REFUSED = ("I can't help with that.", "I'm sorry, but I can't answer that.")
_EVERYDAY = ("everyday", "service", "forum")  # files of pairs, whose questions are asked alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question, in all its wordings, with its answers."""

    fact: str  # the first sentence of each right answer
    wordings: tuple[str, ...]
    hard: bool
    strong: str
    brief: str
    weak: str | None = None  # None: the small model is right
    needs: tuple[str, ...] = ()

    def is_right(self, text: str) -> bool:
        """Whether an answer says what the large model says of it."""
        return text in (self.strong, self.brief)

    def is_its_own(self, text: str) -> bool:
        """Whether a text is one of its answers, right or not: what a cache may give, whatever the model was worth."""
        return text in (self.strong, self.brief, self.weak, UNFOUNDED)

    def page(self) -> dict[str, Any]:
        """Return the line of it for the simulated models."""
        found = {"questions": self.wordings, "strong": self.strong, "brief": self.brief, "needs": self.needs}
        return found if self.weak is None else found | {"weak": self.weak}


class Pages:
    """Makes questions with answers; the same for the same mix. Those of one half are none of the other."""

    def __init__(self, mix: Mix, half: int) -> None:
        self.made: list[Asked] = []
        self._mix = mix
        self._half = half
        self._random = Random(f"pages {mix.seed} {half}")
        self._facts = self._all_facts()

    def fresh(self) -> Iterator[Asked]:
        """Yield questions that nobody has asked before, easy and hard in the share of the mix; they never end.

        First come those that have rewordings, each beside a near one that has another answer.
        """
        lines = Path(self._mix.questions).read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines[self._half :: 2]]
        pairs = [
            (row["hard"], wordings)
            for row in rows
            for wordings in ((row["question"], *row["rewordings"]), (row["near"],))
        ]
        self._random.shuffle(pairs)
        waiting: dict[bool, Iterator[tuple[str, ...]]] = {
            True: iter([*(each for hard, each in pairs if hard)]),
            False: iter([*(each for hard, each in pairs if not hard)]),
        }
        more = {True: self._hard_texts(), False: self._easy_texts()}
        while True:
            hard = self._random.random() < self._mix.fresh.hard
            if hard and self._random.random() < self._mix.fresh.sums:
                yield self._sum()
                continue
            wordings = next(waiting[hard], None) or (next(more[hard]),)
            yield self.page(wordings, hard=hard)

    def page(self, wordings: tuple[str, ...], *, hard: bool, needs: tuple[str, ...] = ()) -> Asked:
        """Return a question with its answers."""
        fact = next(self._facts)
        strong, brief = self._texts(fact)
        weak = self._weak(strong) if hard else None
        return self._add(
            Asked(fact=fact, wordings=wordings, hard=hard, strong=strong, brief=brief, weak=weak, needs=needs)
        )

    def _sum(self) -> Asked:
        one, other = self._random.randint(1001, 9998), self._random.randint(1001, 9998)
        wrong = one * other + self._random.choice((-1, 1)) * 10 ** self._random.randint(2, 5)
        fact = f"{one:,} × {other:,} = {one * other:,}."
        strong, brief = self._texts(fact)
        weak = strong.replace(f"{one * other:,}", f"{wrong:,}")
        text = f"What is {one} times {other}?"
        return self._add(Asked(fact=fact, wordings=(text,), hard=True, strong=strong, brief=brief, weak=weak))

    def _add(self, asked: Asked) -> Asked:
        self.made.append(asked)
        return asked

    def _texts(self, fact: str) -> tuple[str, str]:
        """Return a whole answer and a brief one."""
        answers = self._mix.answers
        length = self._random.lognormvariate(math.log(answers.tokens), answers.spread)
        tokens = min(int(length), answers.most)
        seed = self._random.random()
        return tuple(self._prose(fact, seed, most) for most in (tokens, int(tokens * answers.brief)))  # type: ignore[return-value]

    def _prose(self, fact: str, seed: float, tokens: int) -> str:
        rest = tokens - sum(1 for _ in prose.split(fact))
        return f"{fact} {''.join(prose.tokens(Random(seed), rest))}" if rest > 1 else fact

    def _weak(self, strong: str) -> str:
        ways = self._mix.small
        names = ("unsure", "refused", "empty", "hedged", "wrong")
        (way,) = self._random.choices(names, [getattr(ways, name) for name in names])
        (_, _, rest), other = strong.partition(". "), next(self._facts)
        match way:
            case "unsure":
                said = self._random.choice(UNSURE)
                return f"{said} {rest}".strip() if self._random.random() < 0.5 else said
            case "refused":
                return self._random.choice(REFUSED)
            case "empty":
                return ""
            case "hedged":
                return f"It might be this, but I could be wrong: {other} {rest}".strip()
        return f"{other} {rest}".strip()

    def _all_facts(self) -> Iterator[str]:
        made = [*product(_WORDS["colours"], _WORDS["beasts"], _WORDS["places"])]
        self._random.shuffle(made)
        return (f"It is the {colour} {beast} of the {place}." for colour, beast, place in made)

    def _easy_texts(self) -> Iterator[str]:
        """Yield questions of every day; among them are near ones with other answers."""
        folder = REPOSITORY / "tests" / "data" / "pairs"
        lines = [line for name in _EVERYDAY for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]
        texts = [*dict.fromkeys(json.loads(line)["a"] for line in lines)]
        texts += [f"What is the {what} of {metal}?" for what, metal in product(_WORDS["properties"], _WORDS["metals"])]
        yield from self._of_half(texts)
        for number in count(self._half, 2):
            place = f"{self._random.choice(_WORDS['colours'])} {self._random.choice(_WORDS['places'])}"
            yield f"What is the postal code of house {number} at the {place}?"

    def _hard_texts(self) -> Iterator[str]:
        texts = [
            f"Explain what to do when {system} {trouble}."
            for system, trouble in product(_WORDS["systems"], _WORDS["troubles"])
        ]
        texts += [f"Derive the {what} of a {shape}." for what, shape in product(_WORDS["quantities"], _WORDS["shapes"])]
        texts += [f"Compare {designs} for {use}." for designs, use in product(_WORDS["designs"], _WORDS["uses"])]
        yield from self._of_half(texts)
        for number in count(3 + self._half, 2):
            yield f"Prove that there are infinitely many primes of the form {2 * number} k + 1."

    def _of_half(self, texts: list[str]) -> list[str]:
        found = texts[self._half :: 2]
        self._random.shuffle(found)
        return found
