r"""Recomputes the equations that a text writes out: `3 x 60 = 180`, `$5.25 * 4 = $21`, `20% of 50 = 10`.

A side is read only where nothing but numbers, operators and the units of numbers stands in it (`sides.py`). What a
sentence doubts, or the question has, is left alone. So is a sum of two units of one kind, such as feet and inches. Both
ways to write thousands are tried.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from millrace.evidence.judges.lexicon import listed
from millrace.funnel.checks.arithmetic import Interval, UnreadError
from millrace.funnel.checks.sides import Side, left_side, right_side

MOST = 60  # equations of a text that are recomputed
_LONGEST = 160  # characters of a side
_LONGEST_LINE = 4000  # characters; the expressions below may take the square of it

_TEX = (
    (re.compile(r"https?://\S+|\S+[&?]\w+=\S*"), " "),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:text|mathrm|mathbf|boxed|textbf)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:times|cdot)\b|\\\*|[×·⋅∗]"), " * "),
    (re.compile(r"\\div\b|÷"), " / "),
    (re.compile(r"\\(?:left|right|[,;! ])"), " "),
    (re.compile(r"\\approx\b"), "≈"),
    (re.compile(r"\\[()\[\]]"), " "),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"(?<=\d)\s*\*\*\s*(?=\d)"), "^"),
    (re.compile(r"\*\*|__|`"), ""),
    (re.compile(r"(?<=[\w%)])\s+\((?!mod)(?=[^()]*[^\W\d_]{2})[^()=*/+]*\)"), ""),  # a remark behind a number
    (re.compile(r"[−–](?=\s*[\d($])"), "-"),
    (re.compile("²"), "^2"),
    (re.compile("³"), "^3"),
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z])")
_BULLET = re.compile(r"^[ \t]*(?:[-*•+]|\d{1,2}[.)])[ \t]+", re.MULTILINE)
_SPELLED = re.compile(r"(?<=\d)\s+(plus|minus|times|multiplied by|divided by)\s+(?=[$€£]?\d)")
_SIGN_OF = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/"}
_EQUALS = re.compile(r"(?<![<>!=≠:≤≥~])(?:=|≈)(?![=<>≠~])")
_TWO_UNITS = listed(
    "hour hours hr hrs minute minutes min mins second seconds sec secs day days week weeks month months year "
    "years foot feet ft inch inches in yard yards yd mile miles km kilometer kilometers meter meters metre "
    "metres m cm mm centimeter centimeters kg kilogram kilograms g gram grams mg lb lbs pound pounds oz ounce "
    "ounces ton tons liter liters litre litres l ml gallon gallons quart quarts pint pints cup cups cent cents "
    "dollar dollars penny pennies nickel nickels dime dimes quarter quarters"
)
_DOUBTED = re.compile(
    r"\b(?:not|n't|never|incorrect|wrong|mistake|mistaken|error|false|falsely|instead|if|suppose|assume|mod|modulo|binary|base|"
    r"hex|octal|remainder|claims?|claimed|joke)\b|≠",
    re.IGNORECASE,
)


class Recheck(Struct, frozen=True):
    """What recomputing has found."""

    checked: int = 0
    wrong: int = 0
    steps: tuple[
        tuple[tuple[float, ...], float | None], ...
    ] = ()  # of each: its operands, and its result if it has one

    @property
    def results(self) -> list[float]:
        """The results, in order."""
        return [result for _, result in self.steps if result is not None]


NOTHING = Recheck()


class _Equation(Struct, frozen=True):
    left: Side
    right: Side
    holds: bool

    @property
    def written(self) -> str:
        """Both sides, without blanks and units."""
        return f"{self.left.text}={self.right.text}"

    @property
    def operands(self) -> tuple[float, ...]:
        """The numbers with which something is computed."""
        return tuple(number for side in (self.left, self.right) if side.is_computed for number in side.numbers)

    @property
    def result(self) -> float | None:
        """The number that it comes to; None if its right side is computed."""
        return None if self.right.is_computed else self.right.numbers[0]


def recheck(prose: str, asked: str = "") -> Recheck:
    """Recompute the equations of an answer without its code, but for those that its question has."""
    if "=" not in prose and "≈" not in prose:
        return NOTHING
    asked_of = _plain(asked).replace(" ", "")
    found: list[_Equation] = []
    for written in prose.splitlines():
        if ("=" not in written and "≈" not in written) or len(written) > _LONGEST_LINE:
            continue
        line = _plain(written)
        for sentence in _SENTENCE.split(line):
            if not _DOUBTED.search(sentence):
                found += (each for each in _equations(sentence) if each.written not in asked_of)
        if len(found) >= MOST:
            break
    return Recheck(
        checked=len(found),
        wrong=sum(not each.holds for each in found),
        steps=tuple((each.operands, each.result) for each in found),
    )


def _plain(text: str) -> str:
    for pattern, plain in _TEX:
        text = pattern.sub(plain, text)
    text = _SPELLED.sub(lambda match: f" {_SIGN_OF[match[1]]} ", text)
    return _BULLET.sub("", text)


def _equations(sentence: str) -> Iterator[_Equation]:
    """Yield the equations that are read. Of a chain, each side is compared with the next."""
    signs = [match.span() for match in _EQUALS.finditer(sentence)]
    if not signs:
        return
    ends = [0, *(end for _, end in signs)]
    starts = [*(start for start, _ in signs), len(sentence)]
    for at in range(len(signs)):
        before = sentence[ends[at] : starts[at]][-_LONGEST:]
        after = sentence[ends[at + 1] : starts[at + 1]][:_LONGEST]
        try:
            left, right = left_side(before), right_side(after)
        except UnreadError:
            continue
        if not left.is_computed and not right.is_computed:
            continue
        if not left.is_computed and at == 0:  # what stands before a lone number may belong to it
            continue
        if len((left.units | right.units) & _TWO_UNITS) > 1:
            continue
        yield _Equation(left, right, _agree(left, right))


def _agree(left: Side, right: Side) -> bool:
    """Whether both sides may be the same, by any reading of their numbers."""
    scales = (1.0, 100.0, 0.01) if left.has_percent or right.has_percent else (1.0,)
    if {"cent", "cents"} & (left.units | right.units):
        scales = (1.0, 100.0, 0.01)
    return any(
        _meet(one, other, scale, left, right) for one in left.readings for other in right.readings for scale in scales
    )


def _meet(one: Interval, other: Interval, scale: float, left: Side, right: Side) -> bool:
    low, high = one[0] * scale, one[1] * scale
    above = below = 1e-14 * max(abs(low), abs(high)) + 1e-9
    if not right.is_computed and (left.has_division or left.has_percent or low != high):
        above += right.last_place * (1 - 1e-6)  # cut off
        below += right.last_place * (1 if right.is_whole or other[0] < 0 else 0.5)  # rounded; of things also up
    return low - above <= other[1] and other[0] <= high + below
