"""The check that a text does not end in the middle of something.

Titles, names, items of lists, verses and short lines end without a full stop, so nothing is said of these.
"""

import re
from itertools import islice

from millrace.funnel.checks.candidate import Candidate

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z#*\"'(])|\n+")
_ENDS = frozenset(".!?…;。！？؟।)]}\"'”’»_`|>~")
_STARRED = re.compile(r"\S\*\Z")
_RULER = re.compile(r"[#=\-*_\s]+\Z")
_INNER_END = re.compile(r"[.!?]\s+[A-Z]")
_UNWORKED = re.compile(r"[=:]\W{0,4}[\d.,]{1,20}(?:\s?[-+*/×÷]\s?[\d.,]{1,20}){0,20}\s?[-+*/×÷]\s?[\d.,]{0,20}$")
_OPEN_SIGN = re.compile(r"(?:\s[-+*/]|[=×÷(\[{<,&])\Z")
_OPEN_WORD = re.compile(r"\b(?:the|a|of|and|or|to|which|because|than|my|your|their|its)$", re.IGNORECASE)
_CUT_NUMBER, _THOUSANDS = re.compile(r"\d,\d{1,2}$"), re.compile(r"\d,\d{3}(?!\d)")
_WORD = re.compile(r"[^\W\d_]{2,}")
_GOES_ON = ("...", "…", ":", ",", "_")  # ends of a question that asks for the rest
_OPEN = 10  # characters at the end that have an open word, and one before it
_SHORT = 20  # characters of a text of which nothing is said
_FEW, _MANY = 4, 8  # words of a line that is prose, and of one that is a sentence
_MOSTLY = 0.8
_LAST = 400  # characters of the last line that are read


def unfinished(candidate: Candidate) -> str:
    """Say whether the text ends in the middle of a sentence."""
    text = candidate.text.rstrip()
    if "```" in text or candidate.question.rstrip().endswith(_GOES_ON) or len(text) < _SHORT:
        return ""
    last = text.splitlines()[-1].strip()[-_LAST:]
    if _is_ended(last) or len([*islice(_WORD.finditer(last), _FEW)]) < _FEW:
        return ""
    if last.endswith(":"):
        return "what it announces does not follow"
    return _within(last) or _without_end(text, last)


def _is_ended(last: str) -> bool:
    return last[-1] in _ENDS or bool(_STARRED.search(last[-2:])) or bool(_RULER.match(last))


def _within(last: str) -> str:
    """Say whether a line breaks off within a calculation, or a part of a sentence."""
    if ("=" in last or ":" in last) and _UNWORKED.search(last):
        return "it ends in the middle of a calculation"
    if _OPEN_SIGN.search(last[-2:]) or (_OPEN_WORD.search(last[-_OPEN:]) and len(last.split()) >= _MANY):
        return "it ends in the middle of a sentence"
    return ""


def _without_end(text: str, last: str) -> str:
    """Say whether the last sentence has no end, though the others have."""
    before = text[: text.rfind(last)]
    if _CUT_NUMBER.search(last[-4:]) and _THOUSANDS.search(text):
        return "it ends in the middle of a number"
    if len(last.split()) < _MANY or re.match(r"[-*•|>#]|\d+[.)]\s|\*\*", last):
        return ""  # a title, a signature, an item of a list
    others = [part for part in _SENTENCE.split(before) if len(part.split()) > _FEW]
    ended = sum(part.rstrip()[-1:] in ".!?:" for part in others)
    is_prose = _INNER_END.search(last) is not None or ended > 1
    return "it ends without the end of a sentence" if is_prose and ended >= _MOSTLY * len(others) else ""
