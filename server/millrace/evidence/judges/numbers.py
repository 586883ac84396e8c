"""The numbers of an answer: as digits or words, with units, and as parts of dates and times.

`8.849` and `8,849` are read both as thousands and as a decimal, since nobody says in which language they are written.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

_MONTHS = {
    name: number
    for number, names in enumerate(
        [
            "january jan januar janvier enero", "february feb februar février febrero", "march mar märz mars marzo",
            "april apr avril abril", "may mai mayo", "june jun juni juin junio", "july jul juli juillet julio",
            "august aug août agosto", "september sep sept septembre septiembre", "october oct oktober octobre octubre",
            "november nov novembre noviembre", "december dec dezember décembre diciembre",
        ],
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_WORDS = {
    word: float(value)
    for value, spelled in {
        0: "zero null zéro cero", 1: "one", 2: "two zwei deux dos", 3: "three drei trois tres",
        4: "four vier quatre cuatro", 5: "five fünf cinq cinco", 6: "six sechs seis", 7: "seven sieben sept siete",
        8: "eight acht huit ocho", 9: "nine neun neuf nueve", 10: "ten zehn dix diez", 11: "eleven elf onze once",
        12: "twelve zwölf douze doce dozen", 13: "thirteen dreizehn treize trece",
        14: "fourteen vierzehn quatorze catorce", 15: "fifteen fünfzehn quinze quince",
        16: "sixteen sechzehn seize dieciséis", 17: "seventeen siebzehn", 18: "eighteen achtzehn dieciocho",
        19: "nineteen neunzehn", 20: "twenty zwanzig vingt veinte", 30: "thirty dreißig trente treinta",
        40: "forty vierzig quarante cuarenta", 50: "fifty fünfzig cinquante cincuenta",
        60: "sixty sechzig soixante sesenta", 70: "seventy siebzig setenta", 80: "eighty achtzig ochenta",
        90: "ninety neunzig noventa",
    }.items()
    for word in spelled.split()
    if word not in {"once", "onze"} or word == "onze"  # "once" is an English word too
}  # fmt: skip
_SCALES = {
    "hundred": 1e2, "k": 1e3, "thousand": 1e3, "tausend": 1e3, "mille": 1e3, "mil": 1e3, "million": 1e6,
    "millions": 1e6, "mio": 1e6, "millionen": 1e6, "millones": 1e6, "millón": 1e6, "billion": 1e9, "bn": 1e9,
    "milliarden": 1e9, "milliarde": 1e9, "milliards": 1e9, "trillion": 1e12, "万": 1e4, "亿": 1e8,
}  # fmt: skip
_UNITS = {
    spelling: (dimension, factor)
    for dimension, sizes in {
        "length": {
            "mm millimetre millimetres millimeter millimeters": 1e-3, "cm centimetre centimetres centimeter": 1e-2,
            "m metre metres meter meters mètres metros 米": 1.0, "km kilometre kilometres kilometer kilometers "
            "kilomètres kilómetros 公里": 1e3, "inch inches": 0.0254, "ft foot feet": 0.3048, "mile miles": 1609.344,
        },
        "mass": {
            "mg milligram milligrams": 1e-3, "g gram grams gramm grammes gramos 克": 1.0,
            "kg kilogram kilograms kilo kilos kilogramm 公斤": 1e3, "lb lbs pound pounds": 453.59237,
            "oz ounce ounces": 28.349523125,
        },
        "volume": {"ml millilitres milliliters": 1e-3, "l litre litres liter liters litro litros 升": 1.0},
        "time": {
            "ms millisecond milliseconds": 1e-3, "s sec second seconds sekunden secondes segundos 秒": 1.0,
            "min mins minute minutes minuten minutos 分钟": 60.0,
            "h hr hrs hour hours stunde stunden heure heures hora horas 小时": 3600.0,
            "day days tag tage tagen jour jours día días 天": 86_400.0,
            "week weeks woche wochen semaine semaines semana semanas 周": 604_800.0,
        },
        "months": {
            "month months monat monate monaten mois mes meses 个月": 1.0,
            "year years jahr jahre jahren an ans année années año años 年": 12.0,
        },
        "data": {"kb": 1e3, "mb megabyte megabytes": 1e6, "gb gigabyte gigabytes": 1e9, "tb terabyte terabytes": 1e12},
        "temperature": {"°c celsius": 1.0, "°f fahrenheit": 0.0, "° degree degrees grad degrés grados 度": 1.0},
        "percent": {"% percent pct prozent": 1.0},
        "dollar": {"$ usd dollar dollars": 1.0}, "euro": {"€ eur euro euros": 1.0},
        "sterling": {"£ gbp": 1.0}, "yuan": {"元 块 cny rmb": 1.0}, "yen": {"¥ jpy yen": 1.0},
    }.items()
    for spellings, factor in sizes.items()
    for spelling in spellings.split()
}  # fmt: skip
_month = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATE = re.compile(
    rf"(?<!\d)(?P<y1>\d{{4}})-(?P<m1>\d\d)-(?P<d1>\d\d)(?!\d)"
    rf"|(?:(?P<y2>\d{{4}})年)?(?P<m2>\d{{1,2}})月(?P<d2>\d{{1,2}})[日号]"
    rf"|(?<!\d)(?P<d3>\d{{1,2}})(?:\.|st|nd|rd|th|er)?\s+(?:of\s+|de\s+)?(?P<m3>{_month})\b(?:\.?,?\s+(?:de\s+)?(?P<y3>\d{{4}})(?!\d))?"
    rf"|\b(?P<m4>{_month})\.?\s+(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:,?\s+(?P<y4>\d{{4}})(?!\d))?"
)
_CLOCK = re.compile(
    r"(?<![\d.,])(\d{1,2})(?:[:.](\d\d))?\s?(?:([ap])\.?m\b\.?|uhr\b)|(?<![\d.,])(\d{1,2}):(\d\d)(?![\d:])"
)
_spelled = "|".join(sorted([*_WORDS, *_SCALES], key=len, reverse=True))
_by = r"[,.'\u00a0\u202f ]"  # between thousands
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)])-)?(?P<money>[$€£¥])?\s?(?<![A-Za-z\d])"
    rf"(?P<digits>\d{{1,3}}(?:{_by}\d{{3}}){{1,6}}(?!\d)(?:[.,]\d{{1,15}})?|\d{{1,20}}(?:[.,]\d{{1,20}}){{0,4}})"
    rf"|\b(?P<word>{'|'.join(sorted(_WORDS, key=len, reverse=True))})"
    r"(?:[- ](?P<ones>one|two|three|four|five|six|seven|eight|nine))?\b"
)
_SCALE = re.compile(rf"\s?({'|'.join(sorted(_SCALES, key=len, reverse=True))})(?![a-zäöüéß])")
_latin = [unit for unit in _UNITS if unit[-1].isalpha() and unit[-1] < "\u2e80"]
_other = [unit for unit in _UNITS if unit not in _latin]
_UNIT = re.compile(
    rf"(?:\s|-)?(?:({'|'.join(map(re.escape, sorted(_latin, key=len, reverse=True)))})(?![^\W\d_])"
    rf"|({'|'.join(map(re.escape, sorted(_other, key=len, reverse=True)))}))"
)
_DEGREES_OF = re.compile(r"\s(celsius|fahrenheit)\b")
_DIGIT, _LETTERS = re.compile(r"\d"), re.compile(r"[^\W\d_]+")
_AND = re.compile(r"(?:,|\s)*(?:and|und|et|y)?\s*")
_NEAR = 0.05  # how far apart two numbers are that "about" makes equal
_MOST = 64  # numbers of a text that are read
_HALF_DAY = 12 * 60  # minutes


class Number(Struct, frozen=True):
    """A number and what it measures."""

    values: tuple[float, ...]  # how it may be read, in the smallest unit of its dimension
    dimension: str  # empty without a unit; "day", "month" of a date; "clock" of a time of day

    def equals(self, other: "Number") -> bool:
        """Whether both may be the same."""
        if self.dimension != other.dimension and self.dimension and other.dimension:
            return False
        return self._meets(other) or self._bare_meets(other)

    def _meets(self, other: "Number") -> bool:
        return any(abs(one - two) <= 1e-9 * abs(one) for one in self.values for two in other.values)

    def _bare_meets(self, other: "Number") -> bool:
        """Whether they are equal where one has no unit."""
        if self.dimension == other.dimension:
            return False
        bare, with_unit = (self, other) if not self.dimension else (other, self)
        factors = _FACTORS.get(with_unit.dimension, ())
        return any(bare._meets(Number(tuple(v / f for v in with_unit.values), "")) for f in factors)

    def compares_with(self, other: "Number") -> bool:
        """Whether they measure the same kind of thing, so that one can contradict the other."""
        return self.is_like(other) or not (self.dimension and other.dimension)

    def is_like(self, other: "Number") -> bool:
        """Whether both have no unit, or units of one kind."""
        return self.dimension == other.dimension or {self.dimension, other.dimension} <= _MONEY

    def is_near(self, other: "Number", within: float = _NEAR) -> bool:
        """Whether they are equal, give or take a share of them."""
        return any(abs(one - two) <= within * max(abs(one), abs(two)) for one in self.values for two in other.values)


_MONEY = frozenset({"dollar", "euro", "sterling", "yuan", "yen"})
_SAME = 0.005  # how far apart two numbers of one answer are that say one thing in two units
_FACTORS: dict[str, set[float]] = {"clock": {1.0, 60.0}, "day": {1.0}}
for _dimension, _factor in _UNITS.values():
    if _factor:
        _FACTORS.setdefault(_dimension, set()).add(_factor)


def numbers(text: str) -> list[Number]:
    """Return the numbers of folded text, without those of numbered lists."""
    found: list[Number] = []
    has_digits = _DIGIT.search(text) is not None
    if not has_digits and _WORDS.keys().isdisjoint(_LETTERS.findall(text)):
        return found  # what follows takes ten times as long
    if has_digits:
        text = _DATE.sub(lambda match: _of_date(match, found), text)
        text = _CLOCK.sub(lambda match: _of_clock(match, found), text)
    ends, last = -1, ""
    for match in _NUMBER.finditer(text):
        if len(found) >= _MOST:
            break
        values, end = _values(match), match.end()
        if (scale := _SCALE.match(text, end)) is not None:
            values, end = tuple(value * _SCALES[scale[1]] for value in values), scale.end()
        dimension, factor, end = _unit(text, end, match["money"] or "")
        if match["word"] == "one" and not dimension:
            continue  # "one of them"
        if dimension == "temperature" and not factor:
            number = Number(tuple((value - 32) * 5 / 9 for value in values), dimension)
        else:
            number = Number(tuple(value * factor for value in values), dimension)
        if dimension == last == "time" and ends >= 0 and (gap := _AND.match(text, ends)) and gap.end() >= match.start():
            # "1 hour and 30 minutes"
            found[-1] = Number(
                tuple(one + two for one, two in zip(found[-1].values, number.values, strict=False)), "time"
            )
        elif not (dimension and any(number.dimension == one.dimension and number.is_near(one, _SAME) for one in found)):
            found.append(number)
        ends, last = end, dimension
    return found


def _unit(text: str, end: int, money: str) -> tuple[str, float, int]:
    if money:
        return *_UNITS[money], end
    match = _UNIT.match(text, end)
    if match is None:
        return "", 1.0, end
    unit = match[1] or match[2]
    if unit in {"degree", "degrees"} and (of := _DEGREES_OF.match(text, match.end())) is not None:
        unit = of[1]
    return *_UNITS[unit], match.end()


def _values(match: re.Match[str]) -> tuple[float, ...]:
    if match["word"]:
        return (_WORDS[match["word"]] + (_WORDS[match["ones"]] if match["ones"] else 0.0),)
    sign = -1.0 if match["sign"] else 1.0
    return tuple(sign * value for value in _of_digits(match["digits"]))


def _of_digits(digits: str) -> Iterable[float]:
    """Return how digits with separators may be read. A version has a number of its own for its parts."""
    groups = re.split(r"[^\d]", digits)
    signs = [sign for sign in digits if not sign.isdigit()]
    if not signs:
        return (float(digits),)
    if len(signs) == 1:
        decimal = float(f"{groups[0]}.{groups[1]}")
        if len(groups[1]) != 3 or groups[0] == "0":  # noqa: PLR2004 - digits of a group
            return (decimal,)
        whole = float("".join(groups))
        return (whole, decimal) if signs[0] in ",." else (whole,)
    if len(set(signs)) == 1 and all(len(group) == 3 for group in groups[1:]):  # noqa: PLR2004
        return (float("".join(groups)),)
    if len(set(signs[:-1])) == 1 and signs[-1] != signs[0]:
        return (float(f"{''.join(groups[:-1])}.{groups[-1]}"),)
    return (sum(float(group) / 1e3**at for at, group in enumerate(groups)),)


def _of_date(match: re.Match[str], found: list[Number]) -> str:
    at = match.lastgroup[-1] if match.lastgroup else "1"
    month = match[f"m{at}"]
    found.append(Number((float(match[f"d{at}"]),), "day"))
    found.append(Number((float(_MONTHS.get(month) or month),), "month"))
    if match[f"y{at}"]:
        found.append(Number((float(match[f"y{at}"]),), ""))
    return " , "


def _of_clock(match: re.Match[str], found: list[Number]) -> str:
    hour, minute = int(match[1] or match[4]), int(match[2] or match[5] or 0)
    minutes = hour * 60 + minute
    if match[3]:
        minutes = hour % 12 * 60 + minute + (_HALF_DAY if match[3] == "p" else 0)
    found.append(Number((float(minutes),), "clock"))
    return " , "
