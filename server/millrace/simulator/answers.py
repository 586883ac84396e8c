"""The questions with prepared answers, and how a prompt is matched to one."""

import re

from millrace.simulator.easy_questions import EASY_ANSWERS
from millrace.simulator.hard_questions import HARD_ANSWERS
from millrace.simulator.profiles import Strength

EASY: tuple[str, ...] = tuple(EASY_ANSWERS)
HARD: tuple[str, ...] = tuple(HARD_ANSWERS)

# Operators are part of the key: "17 - 23" and "17 + 23" are different questions.
_WORD = re.compile(r"[^\W_]+|[-+*/%=]")


def find(prompt: str, strength: Strength) -> str | None:
    """Return the prepared answer to a prompt, or None. Case, punctuation and spaces are ignored."""
    return _ANSWERS[strength].get(normalise(prompt))


def normalise(text: str) -> str:
    """Return what two wordings of a prompt have in common that differ in case, punctuation and spaces alone."""
    return " ".join(_WORD.findall(text.casefold().replace("'", "").replace("’", "")))


def _answers(strength: Strength) -> dict[str, str]:
    hard = {question: getattr(answers, strength) for question, answers in HARD_ANSWERS.items()}
    return {normalise(question): answer for question, answer in (EASY_ANSWERS | hard).items()}


_ANSWERS: dict[Strength, dict[str, str]] = {"weak": _answers("weak"), "strong": _answers("strong")}
