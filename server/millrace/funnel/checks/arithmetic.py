"""Evaluates one side of an equation, of numbers, operators, brackets and units.

Numbers count as rounded as they are written, so each is an interval (interval arithmetic, Moore 1966).
"""

import re

from msgspec import Struct

from millrace.evidence.judges.lexicon import listed

Interval = tuple[float, float]

_DEEPEST = 20  # brackets within brackets
_POWER = 64  # the largest exponent
_LARGEST = 1000  # denominator of a mixed number
_DIGITS = 20  # of a number
_ROUNDED = 2  # decimals from which on a number counts as rounded: "2.5" is more often exact
_VARIABLES = frozenset("abcefijknopqrtuvwxyz")
# Words that change what the number beside them says.
CHANGING = listed(
    "half twice thrice double triple quarter third fifth root sqrt log ln sin cos tan mod modulo squared cubed "
    "dozen hundred thousand million billion trillion am pm bc ad remainder not than less more fewer minus plus "
    "times choose factorial average mean median gcd lcm max min sum of"
)
JOINING = frozenset({"of"})  # after a share, that is multiplied: "20% of 50"


class Token(Struct, frozen=True):
    """A number, a word, a sign, or anything else."""

    kind: str  # number, word, sign, other
    text: str
    is_attached: bool  # nothing stands between it and the token before


class UnreadError(Exception):
    """A side that is not read."""


def is_mixed(tokens: list[Token], at: int) -> bool:
    """Whether a mixed number begins at an index, such as 2 1/3."""
    rest = tokens[at : at + 4]
    kinds = [token.kind for token in rest]
    if kinds != ["number", "number", "sign", "number"] or rest[2].text != "/":
        return False
    return rest[1].text.isdigit() and rest[3].text.isdigit() and int(rest[1].text) < int(rest[3].text) <= _LARGEST


class Parser:
    """Evaluates a side by recursive descent."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._european = False
        self.operators = 0
        self.has_division = False
        self.units: list[str] = []

    def read(self, *, european: bool) -> Interval:
        """Return the value of all tokens. Raises `UnreadError`."""
        self._european = european
        value = self._sum()
        if self._at < len(self._tokens):
            raise UnreadError
        return value

    def _peek(self) -> str:
        if self._at < len(self._tokens) and self._tokens[self._at].kind == "sign":
            return self._tokens[self._at].text
        return ""

    def _sum(self) -> Interval:
        value = self._product()
        while (sign := self._peek()) in {"+", "-"}:
            self._at += 1
            self.operators += 1
            low, high = self._product()
            value = (value[0] + low, value[1] + high) if sign == "+" else (value[0] - high, value[1] - low)
        return value

    def _product(self) -> Interval:
        value = self._power()
        while True:
            sign = self._peek()
            if sign == "(":  # 2(3 + 4)
                other = self._power()
                value = _times(value, other)
            elif sign in {"*", "/"}:
                self._at += 1
                other = self._power()
                if sign == "/":
                    self.has_division = True
                    other = _inverse(other)
                value = _times(value, other)
            elif self._is_joined():
                self._at += 1
                value = _times(value, self._power())
            else:
                return value
            self.operators += 1

    def _is_joined(self) -> bool:
        """Whether "of" follows a share, and a number follows it."""
        at = self._at
        if at + 1 >= len(self._tokens) or self._tokens[at].text.lower() not in JOINING:
            return False
        before = self._tokens[at - 1].text
        is_share = before.endswith("%") or (at > 1 and self._tokens[at - 2].text == "/")
        return is_share and (self._tokens[at + 1].kind == "number" or self._tokens[at + 1].text == "(")

    def _power(self) -> Interval:
        value = self._atom()
        if self._peek() == "^":
            self._at += 1
            self.operators += 1
            low, high = self._atom()
            if low != high or not 0 <= low <= _POWER or low != int(low) or value[0] < 0:
                raise UnreadError
            try:
                value = (value[0] ** int(low), value[1] ** int(low))
            except OverflowError:
                raise UnreadError from None
        return value

    def _atom(self) -> Interval:
        if self._at >= len(self._tokens):
            raise UnreadError
        token = self._tokens[self._at]
        self._at += 1
        if token.text == "-" and token.kind == "sign":
            low, high = self._atom()
            return -high, -low
        if token.text == "(" and token.kind == "sign":
            self._depth += 1
            if self._depth > _DEEPEST:
                raise UnreadError
            value = self._sum()
            if self._peek() != ")":
                raise UnreadError
            self._at += 1
            self._depth -= 1
            self._take_units()
            return value
        if token.kind != "number":
            raise UnreadError
        value = number(token.text, european=self._european)
        if is_mixed(self._tokens, self._at - 1):
            above, below = self._tokens[self._at], self._tokens[self._at + 2]
            share = int(above.text) / int(below.text)
            self._at += 3
            value = (value[0] + share, value[1] + share)
        self._take_units()
        return value

    def _take_units(self) -> None:
        """Pass by the words behind a number. Raises if they change what it says."""
        while self._at < len(self._tokens) and self._tokens[self._at].kind == "word":
            token = self._tokens[self._at]
            word = token.text.lower().rstrip(".")
            if word in JOINING and self._is_joined():
                return
            if word in CHANGING or word in _VARIABLES or (token.is_attached and len(word) == 1):
                raise UnreadError
            self.units.append(word)
            self._at += 1
        # A rate: "5 cents/apple", "60 km/h"
        rest = self._tokens[self._at : self._at + 2]
        while len(rest) > 1 and rest[0].text == "/" and rest[1].kind == "word" and self.units:
            self._at += 2
            while self._at < len(self._tokens) and self._tokens[self._at].kind == "word":
                self._at += 1
            self.units.pop()
            rest = self._tokens[self._at : self._at + 2]


def number(text: str, *, european: bool) -> Interval:
    """Return a number as the interval that is rounded to what is written."""
    share = text.endswith("%")
    digits = text.strip("$€£% \t")
    digits = f"0{digits}" if digits.startswith(".") else digits
    if european:
        digits = digits.replace(".", "").replace(",", ".")
    elif re.search(r",\d{3}(?!\d)", digits) and not re.search(r",\d{1,2}(?!\d)|,\d{4,}", digits):
        digits = digits.replace(",", "")
    if digits.count(".") > 1 or "," in digits or len(digits) > _DIGITS:
        raise UnreadError
    value = float(digits)
    places = len(digits.partition(".")[2])
    slack = 0.5 * 10**-places if places >= _ROUNDED else 0.0
    scale = 0.01 if share else 1.0
    return (value - slack) * scale, (value + slack) * scale


def _times(one: Interval, other: Interval) -> Interval:
    corners = [first * second for first in one for second in other]
    return min(corners), max(corners)


def _inverse(value: Interval) -> Interval:
    if value[0] <= 0 <= value[1]:
        raise UnreadError
    return 1 / value[1], 1 / value[0]
