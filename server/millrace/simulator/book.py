"""Prepared answers of the user's own, read from a file: what the strong model says, the weak one, and either briefly.

JSON Lines: {"questions": ["How tall is it?", "What is its height?"], "strong": "324 m. ...", "weak": "I'm not sure.",
"brief": "324 m.", "needs": ["324"]}. `questions` are wordings of one question. `weak` and `brief` may be left out: they
are the strong answer then. A model that does not find in the conversation what the answer `needs` says so instead.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import msgspec

from millrace.simulator.answers import normalise
from millrace.simulator.profiles import Strength

UNFOUNDED = "The context does not say."
_BRIEFLY = re.compile(r"\bbrief(ly)?\b", re.IGNORECASE)


class Page(msgspec.Struct, frozen=True):
    """The answers to one question."""

    questions: tuple[str, ...]
    strong: str
    weak: str | None = None
    brief: str | None = None  # where a system message asks for brevity
    needs: tuple[str, ...] = ()

    def answer(self, strength: Strength, instructions: Iterable[str], conversation: str) -> str:
        """Return a model's answer. `instructions` are the system messages."""
        if strength == "weak" and self.weak is not None:
            return self.weak
        if any(needed not in conversation for needed in self.needs):
            return UNFOUNDED
        is_brief = self.brief is not None and any(map(_BRIEFLY.search, instructions))
        return self.brief if is_brief and self.brief is not None else self.strong


class Book:
    """Pages by each wording of their questions. Case, punctuation and spaces do not count."""

    def __init__(self, pages: Iterable[Page] = ()) -> None:
        self._pages = {normalise(question): page for page in pages for question in page.questions}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. Raises `ValueError` with the line that is wrong, and `OSError`."""
        pages = []
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                pages.append(msgspec.json.decode(line, type=Page))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ValueError(f"line {number}: {error}") from None
        return cls(pages)

    def find(self, prompts: Iterable[str]) -> Page | None:
        """Return the page of the first prompt that has one."""
        if not self._pages:
            return None
        return next((page for prompt in prompts if (page := self._pages.get(normalise(prompt))) is not None), None)
