"""Checks of text that repeats itself, or the question."""

import re
from collections import Counter
from itertools import islice

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
    tail = " ".join(candidate.read.prose.split())[-_SPAN:]
    period = _period(tail)
    if period is None:
        return ""
    length, times = period
    piece = tail[-length:]
    if times < (_TIMES if length >= _LEAST else _TIMES_SHORT) or not _LETTERS.search(piece):  # a ruler, digits
        return ""
    return "" if _ASKS_REPEAT.search(candidate.question) else "it repeats the same words to its end"


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
    if "?" not in candidate.question:  # it quotes a passage, as an answer may
        return ""
    asked = _WORD.findall(candidate.question.lower())
    most = int(len(asked) / _ECHO) + 1  # words of an answer that says no more than its question
    said = [match[0] for match in islice(_WORD.finditer(candidate.text.lower()), most + 1)]
    if len(asked) < _FEW or not _FEW <= len(said) <= most:
        return ""
    both = sum((Counter(asked) & Counter(said)).values())
    if both < _ECHO * max(len(said), len(asked)) or _ASKS_REPEAT.search(candidate.question):
        return ""
    return "it repeats the question"
