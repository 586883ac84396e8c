"""The questions that the simulated models know, and how they are recognised."""

import re

from millrace.simulator.easy_questions import EASY_ANSWERS
from millrace.simulator.hard_questions import HARD_ANSWERS
from millrace.simulator.profiles import Strength

EASY: tuple[str, ...] = tuple(EASY_ANSWERS)
HARD: tuple[str, ...] = tuple(HARD_ANSWERS)

# Operators count: "17 - 23" is another question than "17 + 23".
_WORD = re.compile(r"[^\W_]+|[-+*/%=]")


def find(prompt: str, strength: Strength) -> str | None:
    """The known answer to a prompt, whatever its case, punctuation and spaces."""
    return _ANSWERS[strength].get(_normalise(prompt))


def _normalise(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold().replace("'", "").replace("’", "")))


def _answers(strength: Strength) -> dict[str, str]:
    hard = {question: getattr(answers, strength) for question, answers in HARD_ANSWERS.items()}
    return {_normalise(question): answer for question, answer in (EASY_ANSWERS | hard).items()}


_ANSWERS: dict[Strength, dict[str, str]] = {"weak": _answers("weak"), "strong": _answers("strong")}
