"""Finds the two sides of an equation in a sentence: as far as numbers, operators and units go from its sign."""

import re
from contextlib import suppress

from msgspec import Struct

from millrace.funnel.checks.arithmetic import CHANGING, JOINING, Interval, Parser, Token, UnreadError, is_mixed, number

_UNIT = 4  # words after a number that may be its unit
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>[$€£]?\s?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:[.,]\d+)*|\.\d+)(?![\d:]))(?P<percent>\s?%)?"
    r"|(?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*\.?)|(?P<sign>[-+*/^()])|(?P<other>.)"
)
_BEFORE_TIMES, _BEHIND_TIMES = re.compile(r"[\w)%]\s*$"), re.compile(r"\s*[$€£(.]*\d")


class Side(Struct, frozen=True):
    """A side that was read."""

    readings: tuple[Interval, ...]  # with either way to write thousands
    is_computed: bool  # it has an operator
    is_whole: bool  # it is one whole number
    has_division: bool
    has_percent: bool
    units: frozenset[str]
    numbers: tuple[float, ...]
    text: str  # without blanks
    last_place: float  # of a lone number, what its last digit counts: 0.1 of 2.5


def left_side(text: str) -> Side:
    """Read the side that ends where the text ends: as far back as it goes on. Raises `UnreadError`."""
    tokens = _tokens(text)
    start, depth = len(tokens), 0
    while start > 0 and _goes_back(tokens, start):
        token = tokens[start - 1]
        if token.text == ")":
            depth += 1
        elif token.text == "(":
            if depth == 0:
                break
            depth -= 1
        start -= 1
    if depth:
        raise UnreadError
    _check_before(tokens, start)
    return _side(tokens[start:])


def _goes_back(tokens: list[Token], start: int) -> bool:
    """Whether the token before an index belongs to the side that begins there."""
    token = tokens[start - 1]
    behind = tokens[start] if start < len(tokens) else None
    if token.kind == "other":
        if token.text == "/":
            raise UnreadError
        return False
    if token.kind == "word":
        first = start - 1
        while first > 0 and tokens[first - 1].kind == "word":
            first -= 1
        last = start
        while last < len(tokens) and tokens[last].kind == "word":
            last += 1
        is_unit = first > 0 and tokens[first - 1].kind == "number" and last - first <= _UNIT
        is_joined = behind is None or behind.kind == "word" or token.text in JOINING
        return is_unit and (is_joined or (behind is not None and behind.kind == "sign" and behind.text != "("))
    is_next_to_number = token.kind == "number" and behind is not None and behind.kind == "number"
    return not is_next_to_number or is_mixed(tokens, start - 1)


def _check_before(tokens: list[Token], start: int) -> None:
    """Raise unless the side stands by itself: what is before it does not change what it says."""
    if start == 0:
        return
    before = tokens[start - 1]
    first = tokens[start] if start < len(tokens) else None
    if before.kind == "word":
        word = before.text.lower()
        earlier = tokens[start - 2].text.lower() if start > 1 else ""
        if word == "of":
            if earlier in CHANGING or earlier.endswith("%"):
                raise UnreadError
        elif word in CHANGING or (
            first is not None and (first.is_attached or (first.kind == "sign" and first.text != "("))
        ):
            raise UnreadError
        if first is not None and first.text == "(" and len(word) == 1:
            raise UnreadError
    elif (before.kind == "sign" and before.text != "(") or before.text in "√|!_{[^~#@&\\'’":
        raise UnreadError


def right_side(text: str) -> Side:
    """Read the side that begins where the text begins: as far as it goes on. Raises `UnreadError`."""
    tokens = _tokens(text)
    end, depth, words = 0, 0, 0
    whole = 0  # behind the last number or bracket
    while end < len(tokens) and _goes_on(tokens, end):
        token = tokens[end]
        words = words + 1 if token.kind == "word" else 0
        if words > _UNIT:
            break
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            if depth == 0:
                break
            depth -= 1
        end += 1
        if (token.kind == "number" or token.text == ")") and depth == 0:
            whole = end
    if whole < end and tokens[whole].kind == "sign" and tokens[whole].text != "(":
        raise UnreadError  # it goes on with what is not read, or is cut off
    behind = tokens[whole : whole + 1]
    if behind and _changes(behind[0]):
        raise UnreadError
    return _side([*tokens[:whole], *(token for token in behind if token.kind == "word")])


def _goes_on(tokens: list[Token], end: int) -> bool:
    """Whether the token at an index belongs to the side that ends before it."""
    token = tokens[end]
    before = tokens[end - 1] if end else None
    if token.kind == "other" or (token.kind == "word" and before is None):
        return False
    follows_number = before is not None and before.kind in {"number", "word"}
    if token.text == "(" and follows_number and not token.is_attached:
        return False  # a remark in brackets
    if token.kind == "number" and follows_number and before is not None:
        return before.kind == "number" and is_mixed(tokens, end - 1)
    return True


def _changes(token: Token) -> bool:
    """Whether what stands behind a side changes what it says."""
    if token.kind == "word":
        word = token.text.lower().rstrip(".")
        return word in CHANGING or (token.is_attached and len(word) == 1)
    return token.kind == "other" and token.is_attached and token.text in "!:^_|…"


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    spaced = True
    for match in _TOKEN.finditer(text):
        if match["space"]:
            spaced = True
            continue
        kind = "number" if match["number"] else str(match.lastgroup)
        written = match[0].strip()
        if (
            written in {"x", "X"}
            and _BEFORE_TIMES.search(text[: match.start()])
            and _BEHIND_TIMES.match(text, match.end())
        ):
            kind, written = "sign", "*"
        found.append(Token(kind, written, not spaced))
        spaced = False
    return found


def _side(tokens: list[Token]) -> Side:
    parsed = Parser(tokens)
    readings = [parsed.read(european=False)]
    if any(re.search(r"[.,]\d", token.text) for token in tokens if token.kind == "number"):
        with suppress(UnreadError):
            readings.append(Parser(tokens).read(european=True))
    numbers = [token.text for token in tokens if token.kind == "number"]
    return Side(
        tuple(readings),
        is_computed=parsed.operators > 0,
        is_whole=len(numbers) == 1 and parsed.operators == 0 and not re.search(r"[.]\d", numbers[0]),
        has_division=parsed.has_division,
        has_percent=any(text.endswith("%") for text in numbers),
        units=frozenset(parsed.units),
        numbers=tuple(sum(number(text, european=False)) / 2 for text in numbers),
        text="".join(token.text for token in tokens if token.kind in {"number", "sign"}),
        last_place=10.0 ** -len(numbers[0].rstrip("% ").partition(".")[2]) if len(numbers) == 1 else 0.0,
    )
