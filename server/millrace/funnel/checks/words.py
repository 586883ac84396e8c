"""Recognises an answer that refuses, or that says it does not know.

Such an answer says so at its beginning, after interjections at most, so only the beginning is matched. A text that
contains or quotes such words ("'I don't know' in French is ...") does not match.
"""

import re
from collections.abc import Iterable
from functools import cached_property

from millrace.funnel.checks.growing import begun, sure

_HEAD = 300  # characters that count as the beginning
_APOSTROPHES = str.maketrans({"’": "'", "ʼ": "'", "`": "'"})
_QUOTE = re.compile(r"\s*[\"“‘«']")

_I_AM = r"i(?:'m| am)"
_CANNOT = r"(?:can't|cannot|can not|couldn't|could not)"
_HOW = (
    r"(?:(?:really|quite|just|honestly|simply|actually|currently|still|entirely|completely|100%|too|very|so|truly) )?"
)
_INTERJECTION = (
    r"(?:well|hmm+|uh+|um+|oh|hello|hi|great question|good question|honestly|frankly|unfortunately|regrettably"
    rf"|my apologies|apologies|i apologi[sz]e|(?:{_I_AM} )?{_HOW}(?:sorry|afraid)"
    r"|as an? (?:\w+[ -]){0,3}(?:ai|assistant|model))"
)
_LEAD = rf"\W*+(?:{_INTERJECTION}[ ,.;:!–—…-]*(?:(?:but|however|that)\b[ ,]*)?){{0,3}}"
_DEED = (
    r"(?:help(?! but| \w+ing)|give(?! up)|assist|comply|answer|provide|discuss|do (?:that|this)|fulfil|create|generate"
    r"|engage|share|support|continue|talk about|respond|write|offer|participate)"
)
_KNOWLEDGE = (
    r"(?:an answer|the answer|any idea|a clue|access to|enough (?:information|context)"
    r"|(?:any )?(?:specific )?(?:information|knowledge))"
)
_FIND_OUT = r"(?:say(?! enough)|tell(?! you how)|determine|recall|find|be (?:sure|certain))"

_REFUSALS = (
    rf"i (?:{_CANNOT}|won't|will not) (?:\w+ly )?{_DEED}",
    rf"i (?:{_CANNOT}|won't|will not)\s*(?:[.!…]|$)",
    rf"{_I_AM} (?:unable|not able|not allowed|not permitted|not going|not comfortable) (?:to )?{_DEED}",
    r"i (?:must |have to )?(?:\w+ly )?(?:decline|refuse)\b",
    r"(?:this|your) request (?:violates|goes against)",
)
_DOUBTS = (
    rf"{_I_AM} {_HOW}(?:not {_HOW}(?:sure|certain|familiar with)|unsure|uncertain)",
    rf"i {_HOW}(?:do not|don't) {_HOW}(?:know(?! about you| how to thank)|have {_KNOWLEDGE})",
    rf"i {_HOW}have no (?:idea|clue|information|knowledge)",
    rf"i {_HOW}{_CANNOT} {_HOW}{_FIND_OUT}",
    rf"(?:{_I_AM}|i was) (?:unable|not able) to {_FIND_OUT}",
    r"(?:there is|there's) (?:not enough|no|insufficient) (?:information|context)",
    r"not sure\s*(?:[.,;!?…]|$)",
    r"(?:no idea|unsure|unknown|don't know|i dunno|dunno|hard to say)\s*(?:[.;!?…]|$)",
)


# The first two characters of all of these. Most answers have others, and are not matched any further.
_FIRST_TWO = (
    r"10|a[cfps]|c[ou]|d[ou]|en|fr|g[or]|h[aeimo]|i[ ']|ju|my|no|oh|qu|re|s[iot]|t[hor]|u[hmn]|ve|we|yo"
    r"|.?\Z|.?[^\x00-\x7f]"  # not known yet, or letters that may be another case of one of them
)
_MAY_BEGIN = re.compile(rf"(?is:\W*+(?:{_FIRST_TWO}))")


class Openings:
    """Ways in which an answer may begin, and what can be said of an answer while it grows.

    What is derived from its pattern takes long to compile (0.04 s), and is not when it is imported.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._pattern = f"(?i:{_LEAD}(?:{'|'.join(phrases)}))"

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(self._pattern)

    @cached_property
    def _sure(self) -> re.Pattern[str]:
        return sure(self._pattern)

    @cached_property
    def _begun(self) -> re.Pattern[str]:
        return begun(self._pattern)

    def prepare(self) -> None:
        """Compile what an answer waits for otherwise, the first that may begin in such a way, and with it the loop."""
        _ = self._whole, self._sure, self._begun

    def begin(self, text: str, *, is_whole: bool = True) -> bool:
        """Whether a text begins in such a way; if it is not whole, whether it does however it goes on."""
        head = _matched(text)
        return head is not None and (self._whole if is_whole else self._sure).match(head) is not None

    def may_begin(self, text: str) -> bool:
        """Whether a text that goes on may still come to begin in such a way. It takes some 0.02 ms."""
        if len(text) >= _HEAD:
            return False
        if not text.strip():
            return True
        head = _matched(text)
        return head is not None and self._begun.match(head) is not None


REFUSAL = Openings(_REFUSALS)
DOUBT = Openings(_DOUBTS)


def prepare_openings() -> None:
    """Compile all that the first answers need."""
    REFUSAL.prepare()
    DOUBT.prepare()


def refuses(text: str, *, is_whole: bool = True) -> bool:
    """Whether the answer is a refusal."""
    return REFUSAL.begin(text, is_whole=is_whole)


def is_unsure(text: str, *, is_whole: bool = True) -> bool:
    """Whether the answer says that it does not know."""
    return DOUBT.begin(text, is_whole=is_whole)


def _matched(text: str) -> str | None:
    """Return what is matched of a text: its beginning, as it is typed in ASCII; None if it begins as none does."""
    head = text[:_HEAD]
    if not head.isascii() or "`" in head:
        head = head.translate(_APOSTROPHES)
    return head if _MAY_BEGIN.match(head) is not None and _QUOTE.match(head) is None else None
