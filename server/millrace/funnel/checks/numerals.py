"""Numbers in English texts: which one a question asks for, which one an answer ends with, and which there are."""

import re
from collections import deque

from msgspec import Struct

_ASKED = re.compile(
    r"\bhow (?P<kind>many|much|long|far|old|tall|fast|big|heavy|wide|deep|high)\b(?P<of>[^?.!]*)"
    r"|\bwhat(?:'s| is| was| are| were| will be| would be|ever is)? (?:\w+ ){0,3}?(?:total|sum|number|"
    r"amount|percentage|percent|"
    r"average|difference|product|quotient|remainder|price|cost|age|area|perimeter|volume|probability|"
    r"ratio|fraction|value|salary|profit)\b"
    r"|\b(?:calculate|compute|find the (?:total|sum|number|value|average|area|volume|perimeter|age|difference))\b",
    re.IGNORECASE,
)
_HOW_TO = re.compile(
    r"\bhow (?:much|many|long|far|big) (?:is too|should i|do you|can i|does it (?:matter|cost))\b", re.IGNORECASE
)
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[-−–]\s?(?=[$€£]?\d))?[$€£]?\s?(?P<digits>(?:\d{1,3}(?:,\d{3}){1,5}(?!\d)|"
    r"\d{1,18}(?!\d))(?:\.\d{1,18})?)"
    r"(?:\s+(?P<above>\d{1,9})/(?P<below>\d{1,9})|/(?P<only>\d{1,9}))?(?P<percent>\s?%)?(?![\d])"
)
WORDS = {
    word: float(value)
    for value, words in {
        0.25: "quarter quarters", 0.5: "half halves halved", 1: "one single once",
        2: "two twice double doubled doubles pair pairs couple both",
        3: "three thrice triple tripled triples third thirds",
        4: "four quadruple fourth fourths", 5: "five fifth fifths", 6: "six sixth", 7: "seven", 8: "eight eighth",
        9: "nine", 10: "ten tenth", 11: "eleven", 12: "twelve dozen dozens", 13: "thirteen", 14: "fourteen",
        15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen", 20: "twenty", 30: "thirty",
        40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety", 100: "hundred hundreds",
        1000: "thousand", 1_000_000: "million",
    }.items()
    for word in words.split()
}  # fmt: skip
_SPELLED_NUMBER = re.compile(rf"\b(?:{'|'.join(sorted(WORDS, key=len, reverse=True))})\b", re.IGNORECASE)
_PLAIN = re.compile(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\d.])\.\d+")
_END = 600  # characters at the end of an answer in which its result is


class Result(Struct, frozen=True):
    """The number that an answer ends with."""

    value: float
    is_whole: bool
    unit: str  # the word behind it, folded; empty without one
    is_percent: bool
    is_money: bool


def asked_for(question: str) -> str | None:
    """Return what is asked for, such as "many apples did he eat"; empty if it is not named; None if no number is."""
    last = deque(_ASKED.finditer(question), 1)
    if not last or _HOW_TO.search(question):
        return None
    [asked] = last
    if asked["kind"] and "?" not in question[asked.start() :]:
        return None
    return f"{asked['kind']} {asked['of']}".lower() if asked["kind"] else ""


def result_of(text: str) -> Result | None:
    """Return the last number of an answer; None without one."""
    end = text[-_END:].rstrip()
    found = deque(_NUMBER.finditer(end), 1)
    if not found:
        return None
    [last] = found
    value = float(last["digits"].replace(",", ""))
    if last["above"]:
        value += int(last["above"]) / max(int(last["below"]), 1)
    if last["only"]:
        value /= max(int(last["only"]), 1)
    value = -value if last["sign"] else value
    behind = re.match(r"\s*([A-Za-z]+)", end[last.end() :])
    return Result(
        value=value,
        is_whole=value == int(value) and not (last["above"] or last["only"]),
        unit=behind[1].lower() if behind else "",
        is_percent=bool(last["percent"]),
        is_money=last[0].lstrip("-−– ")[:1] in {"$", "€", "£"},
    )


def written(text: str) -> set[float]:
    """Return the numbers that a text has as digits."""
    return {float(number.replace(",", "")) for number in _PLAIN.findall(text)}


def spelled(text: str) -> set[float]:
    """Return the numbers that a text has as words, tens and ones joined."""
    found = {WORDS[word.lower()] for word in _SPELLED_NUMBER.findall(text)}
    for tens, ones in re.findall(r"\b(\w+ty)[- ](\w+)", text.lower()):
        if tens in WORDS and ones in WORDS:
            found.add(WORDS[tens] + WORDS[ones])
    return found
