"""What an answer says of itself: that it will not, or that it does not know.

Both are looked for where such an answer says them: at its beginning, after an interjection at most. A text that
merely contains or quotes such words ("'I don't know' in French is ...") is not one.
"""

import re

_HEAD = 300  # characters that count as the beginning
_APOSTROPHES = str.maketrans({"’": "'", "ʼ": "'", "`": "'"})
_QUOTE = re.compile(r"\s*[\"“‘«']")

_I_AM = r"i(?:'m| am)"
_HOW = r"(?:(?:really|quite|just|honestly|simply|actually|currently|still|entirely|completely|too|very|so|truly) )?"
_LEAD = (
    r"\W*(?:(?:well|hmm+|uh+|um+|oh|honestly|frankly|unfortunately|regrettably|my apologies|apologies|i apologi[sz]e"
    rf"|(?:{_I_AM} )?{_HOW}(?:sorry|afraid)|as an? (?:\w+[ -]){{0,3}}(?:ai|assistant|model))"
    r"[ ,.;:!-]*(?:(?:but|however|that)\b[ ,]*)?){0,3}"
)
_DEEDS = (
    r"(?:help|assist|comply|answer|provide|discuss|do (?:that|this)|fulfil|create|generate|engage|share|support"
    r"|continue|talk about|respond|give|write|offer|participate|decline|refuse)"
)
_REFUSAL = re.compile(
    _LEAD + rf"(?:i (?:can't|cannot|can not|could not|couldn't|won't|will not|must|have to) (?:\w+ly )?{_DEEDS}"
    rf"|{_I_AM} (?:unable|not able|not allowed|not permitted|not going|not comfortable) (?:to )?{_DEEDS}"
    r"|i (?:refuse|decline) to"
    r"|(?:this|your) request (?:violates|goes against))",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    _LEAD + rf"(?:{_I_AM} {_HOW}(?:(?:not {_HOW}(?:sure|certain|familiar with))|unsure|uncertain)"
    rf"|i {_HOW}(?:do not|don't) {_HOW}(?:know|have (?:an answer|the answer|any idea|a clue"
    r"|enough (?:information|context)|(?:any )?(?:specific )?(?:information|knowledge)))"
    rf"|i {_HOW}have no (?:idea|clue|information|knowledge)"
    rf"|i {_HOW}(?:can't|cannot|can not|couldn't|could not) {_HOW}(?:say|tell|determine|recall|find"
    r"|be (?:sure|certain))"
    r"|(?:there is|there's) (?:not enough|no|insufficient) (?:information|context)"
    r"|(?:no idea|not sure|unsure|unknown|don't know|i dunno|dunno|hard to say)\s*(?:[.,;!?…]|$))",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Whether the answer declines to answer."""
    return _says(_REFUSAL, text)


def is_unsure(text: str) -> bool:
    """Whether the answer says that it does not know."""
    return _says(_UNSURE, text)


def _says(pattern: re.Pattern[str], text: str) -> bool:
    head = text[:_HEAD].translate(_APOSTROPHES)
    return _QUOTE.match(head) is None and pattern.match(head) is not None
