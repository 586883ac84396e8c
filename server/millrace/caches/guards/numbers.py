"""Numbers, ordinals, versions and units: `5 km`, `five kilometres` and `5km` are equal; `3.1` and `3.10` are not."""

import re
from itertools import pairwise

from millrace.caches.guards.words import NAME, NUMBER, listed

_COUNTING = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
_RANKING = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_BY_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES = {word: value for value, word in enumerate(_COUNTING.split())} | {"dozen": 12}
_TENS = {word: 10 * value for value, word in enumerate(_BY_TENS.split(), start=2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SUFFIXES = {"k": 1000, "bn": 10**9}
_ORDINALS = {word: value for value, word in enumerate(_RANKING.split(), start=1)}
_ORDINAL_ENDINGS = frozenset({"st", "nd", "rd", "th"})
_BEFORE_ONE = listed("in for with only exactly than least most per at after within is are plus minus times and by")
_AFTER_ONE = listed("of can does should do did is are was who that which would will could has have another")

UNITS = {
    spelling: unit
    for unit, spellings in {
        "kilometre": "km kms kilometer kilometers kilometre kilometres",
        "metre": "meter meters metre metres",
        "centimetre": "cm centimeter centimeters centimetre centimetres",
        "millimetre": "mm millimeter millimeters millimetre millimetres",
        "mile": "mi mile miles",
        "foot": "ft foot feet",
        "inch": "inch inches",
        "yard": "yd yard yards",
        "kilogram": "kg kgs kilo kilos kilogram kilograms",
        "gram": "gram grams gramme grammes",
        "milligram": "mg milligram milligrams",
        "microgram": "mcg microgram micrograms",
        "pound": "lb lbs pound pounds £ gbp",
        "ounce": "oz ounce ounces",
        "litre": "liter liters litre litres",
        "millilitre": "ml milliliter milliliters millilitre millilitres",
        "hour": "hr hrs hour hours",
        "minute": "mins minute minutes",
        "second": "sec secs seconds",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "yr yrs year years",
        "celsius": "celsius centigrade",
        "fahrenheit": "fahrenheit",
        "megabyte": "mb megabyte megabytes",
        "gigabyte": "gb gigabyte gigabytes",
        "terabyte": "tb terabyte terabytes",
        "dollar": "$ usd dollar dollars",
        "euro": "€ eur euro euros",
        "yen": "¥ jpy yen",
        "rupee": "₹ inr rupee rupees",
        "degree": "° degree degrees",
        "percent": "% percent pct",
    }.items()
    for spelling in spellings.split()
}
# Spellings that are units only after a number.
_AFTER_A_NUMBER = {
    "m": "metre", "g": "gram", "l": "litre", "h": "hour", "s": "second", "c": "celsius", "f": "fahrenheit",
    "in": "inch", "min": "minute",
}  # fmt: skip
_ROMAN = {"ii": 2, "iii": 3, "iv": 4, "vi": 6, "vii": 7, "viii": 8, "ix": 9}  # "i", "v" and "x" are letters too
_GROUPED = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def canonical(tokens: list[str]) -> list[str]:
    """Return the tokens with each number as `#digits`, each ordinal as `#digits.` and each unit under one name."""
    found: list[str] = []
    at = 0
    while at < len(tokens):
        token, taken = _number(tokens, at)
        if not taken:
            token, taken = _unit(tokens[at], before=found), 1
        found.append(token)
        at += taken
    return _money_first(found)


def _number(tokens: list[str], at: int) -> tuple[str, int]:
    """Return the number that starts at a token, and how many tokens it takes; 0 if none starts there."""
    token = tokens[at]
    if token[-1].isdigit():
        return _digits(tokens, at)
    roman = _ROMAN.get(token.removeprefix(NAME))
    if roman and at:
        return f"{NUMBER}{roman}", 1
    value, taken = _spoken(tokens, at)
    if taken:
        return f"{NUMBER}{value}", taken
    ordinal = _ORDINALS.get(token.removeprefix(NAME))
    if ordinal and not (at and tokens[at - 1] in {"per", "a"}):  # "a second" is a time
        return f"{NUMBER}{ordinal}.", 1
    return "", 0


def _digits(tokens: list[str], at: int) -> tuple[str, int]:
    written = tokens[at]
    plain = written.replace(",", "") if _GROUPED.fullmatch(written) else written
    plain = f"0{plain}" if plain.startswith(".") else plain
    following = tokens[at + 1] if at + 1 < len(tokens) else ""
    if following in _ORDINAL_ENDINGS:
        return f"{NUMBER}{plain}.", 2
    scale = _SUFFIXES.get(following) or _SCALES.get(following)
    if scale and re.fullmatch(r"\d+(?:\.\d+)?", plain):
        return f"{NUMBER}{float(plain) * scale:.12g}", 2
    return NUMBER + plain, 1


def _spoken(tokens: list[str], at: int) -> tuple[int, int]:
    """Return the value of number words and their count: `one hundred and twenty five` is 125, in 5 tokens."""
    if tokens[at] == "one" and not _counts_one(tokens, at):
        return 0, 0
    total = current = taken = 0
    while at + taken < len(tokens):
        word = tokens[at + taken]
        if word in _SCALES and taken:
            current = max(current, 1) * _SCALES[word]
            if current >= _SCALES["thousand"]:
                total, current = total + current, 0
        elif _continues(word, current, taken):
            current += _ONES.get(word, 0) or _TENS.get(word, 0)
        elif not (word == "and" and taken and tokens[at + taken - 1] in _SCALES and _counts(tokens, at + taken + 1)):
            break
        taken += 1
    return total + current, taken


def _counts_one(tokens: list[str], at: int) -> bool:
    """Whether "one" is a number here, and not a pronoun."""
    before, following = tokens[at - 1] if at else "", tokens[at + 1] if at + 1 < len(tokens) else ""
    if following in _SCALES or following in UNITS or before in _TENS:
        return True
    return before in _BEFORE_ONE and following.isalpha() and following not in _AFTER_ONE


def _counts(tokens: list[str], at: int) -> bool:
    return at < len(tokens) and (tokens[at] in _ONES or tokens[at] in _TENS)


def _continues(word: str, current: int, taken: int) -> bool:
    """Whether a word continues the number: `five` after `twenty`, but not after `two`."""
    if word in _TENS:
        return not taken or current % 100 == 0
    return word in _ONES and (not taken or current % 10 == 0) and not (taken and current == 0)


def _unit(token: str, before: list[str]) -> str:
    follows_number = bool(before) and before[-1].startswith(NUMBER)
    if follows_number and token in _AFTER_A_NUMBER:
        return _AFTER_A_NUMBER[token]
    return UNITS.get(token, token)


_MONEY = frozenset({"dollar", "euro", "pound", "yen", "rupee"})


def _money_first(tokens: list[str]) -> list[str]:
    """Turn `$5` into `5 dollar`."""
    found = list(tokens)
    for at in range(len(found) - 1):
        if found[at] in _MONEY and found[at + 1].startswith(NUMBER) and "." not in found[at]:
            found[at], found[at + 1] = found[at + 1], found[at]
    return found


def differ(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, str] | None:
    """Return both sides' numbers if they are not the same ones. Their order is `order`'s."""
    if left == right or sorted(left) == sorted(right):
        return None
    return _shown(left), _shown(right)


def _shown(numbers: tuple[str, ...]) -> str:
    return " ".join(number.strip(NUMBER).rstrip(".") for number in numbers) or "none"


def units(tokens: list[str]) -> tuple[str, ...]:
    """Return the units that follow a number, in order."""
    return tuple(token for before, token in pairwise(tokens) if before.startswith(NUMBER) and token in _NAMES)


_NAMES = frozenset(UNITS.values()) | frozenset(_AFTER_A_NUMBER.values())
