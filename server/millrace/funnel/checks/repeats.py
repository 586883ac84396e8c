"""Checks of text that repeats itself, or the question."""

import re
from collections import Counter

from millrace.funnel.checks.candidate import Candidate

_SPAN = 4000  # characters at the end that are looked at: a loop goes on to the end
_TIMES = 4  # that a piece of text stands in a row
_LEAST = 20  # characters of a piece
_TIMES_SHORT = 12  # of a shorter piece, such as a word
_ECHO = 0.9  # share of the words of an answer that the question has, in its order
_FEW = 6  # words of a question that an answer may repeat
_WORD, _LETTERS = re.compile(r"\w+"), re.compile(r"[^\W\d_]{2}")
_ASKS_REPEAT = re.compile(
    r"\b(?:repeat|echo|copy|copies|rewrite|rephrase|paraphrase|proofread|correct|format|quote|verbatim|times|again|say|"
    r"translate|fix|edit|continue|complete|recite|poem|song|lyrics|chorus|list|pattern|generate|wiederhole|répète|repite)\b",
    re.IGNORECASE,
)


def loop(candidate: Candidate) -> str:
    """Say whether the end of the text goes round: one piece of it, again and again. Tables and rulers do not."""
    if _ASKS_REPEAT.search(candidate.question):
        return ""
    tail = " ".join(candidate.read.prose.split())[-_SPAN:]
    period = _period(tail)
    if period is None:
        return ""
    length, times = period
    piece = tail[-length:]
    if not _LETTERS.search(piece):  # a ruler, digits
        return ""
    return "it repeats the same words to its end" if times >= (_TIMES if length >= _LEAST else _TIMES_SHORT) else ""


def _period(text: str) -> tuple[int, int] | None:
    """Return the length of the piece that the text ends with again and again, and how often."""
    end = text[-_LEAST:]
    before = text.rfind(end, 0, len(text) - 1) if len(text) > _LEAST else -1
    if before < 0:
        return None
    length = len(text) - len(end) - before
    piece, times = text[-length:], 1
    while text[-(times + 1) * length : -times * length] == piece:
        times += 1
    return length, times


def echo(candidate: Candidate) -> str:
    """Say whether the answer says nothing but what the question says."""
    asked = _WORD.findall(candidate.question.lower())
    said = _WORD.findall(candidate.text.lower())
    if len(said) < _FEW or len(asked) < _FEW or _ASKS_REPEAT.search(candidate.question):
        return ""
    if len(said) < len(asked) / 2 or "?" not in candidate.question:  # it quotes a passage, as an answer may
        return ""
    both = sum((Counter(asked) & Counter(said)).values())
    return "it repeats the question" if both >= _ECHO * len(said) and both >= _ECHO * len(asked) else ""
