"""Recognises an answer that refuses, or that says it does not know.

Such an answer says so at its beginning, after interjections at most, so only the beginning is matched. A text that
contains or quotes such words ("'I don't know' in French is ...") does not match.
"""

import re

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
_LEAD = rf"\W*(?:{_INTERJECTION}[ ,.;:!–—…-]*(?:(?:but|however|that)\b[ ,]*)?){{0,3}}"
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
_REFUSAL = re.compile(f"{_LEAD}(?:{'|'.join(_REFUSALS)})", re.IGNORECASE)
_UNSURE = re.compile(f"{_LEAD}(?:{'|'.join(_DOUBTS)})", re.IGNORECASE)


def refuses(text: str) -> bool:
    """Whether the answer is a refusal."""
    return _begins_with(_REFUSAL, text)


def is_unsure(text: str) -> bool:
    """Whether the answer says that it does not know."""
    return _begins_with(_UNSURE, text)


def _begins_with(pattern: re.Pattern[str], text: str) -> bool:
    head = text[:_HEAD].translate(_APOSTROPHES)
    return _QUOTE.match(head) is None and pattern.match(head) is not None
