"""Checks of answers to a question that asks for a number, in English: that it is given, possible, and founded.

What stands at the end of an answer counts as its result: its last number.
"""

import re

from millrace.evidence.judges.lexicon import listed
from millrace.funnel.checks import numerals
from millrace.funnel.checks.candidate import Candidate

_SPELLED = re.compile(
    r"\b(?:zero|no|none|nobody|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|"
    r"fourteen|fifteen|sixteen|"
    r"seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|"
    r"million|billion|"
    r"dozen|half|third|quarter|once|twice|single|several|many|few|all|infinite(?:ly)?|unlimited|countless|"
    r"both|every|each|any)\b",
    re.IGNORECASE,
)
# What is counted is whole, but for what is measured, paid or averaged.
_MEASURED = listed(
    "hour hours minute minutes second seconds day days week weeks month months year years decade decades "
    "century centuries mile miles kilometer kilometers kilometre kilometres km meter meters metre metres "
    "centimeter centimeters cm mm foot feet inch inches yard yards acre acres hectare hectares pound pounds lb "
    "lbs ounce ounces oz gram grams kilogram kilograms kg kilos ton tons tonnes gallon gallons liter liters "
    "litre litres quart quarts pint pints cup cups teaspoon teaspoons tablespoon tablespoons spoonful dollar "
    "dollars cent cents euro euros percent percentage degree degrees point points calorie calories joule "
    "joules watt watts volt volts units unit mole moles square cubic times bytes gb mb kb more servings "
    "serving batches rounds laps loaves slices portion portions gb tb bits carats light rods credits grade "
    "grades marks mph stars dozen dozens k thousand million billion millions billions scoops bushels "
    "barrels blocks stories trips turns revolutions"
)
_AVERAGED = re.compile(
    r"\b(?:average|mean|per|rate|expected|ratio|fraction|portion|estimate|approximately|about)\b", re.IGNORECASE
)
_MAY_FALL = re.compile(
    r"\b(?:temperature|below zero|negative|profit|loss|debt|change|difference|elevation|balance|net|score|"
    r"integer|root|solution|"
    r"equation|value|charge|deviation)\w*",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"(?:=|\bis|\bare)\s+[^.=]*?(?:\d\s*[-+*/]\s*\(?[a-z]\b(?!')|\b(?![aiAI]\b)[b-z]\s*[-+*/]\s*\d)[^=]*$"
)
_LETTERS = re.compile(r"[a-z]+")
_KINDS_OF_UNITS = (
    "hour hours|minute minutes|second seconds|day days|week weeks|month months|year years|foot feet|inch inches|"
    "yard yards|mile miles|metre metres meter meters|kilometre kilometres kilometer kilometers|"
    "centimeter centimeters|pound pounds|ounce ounces|gram grams|kilogram kilograms|gallon gallons|"
    "litre litres liter liters|quart quarts|cup cups|dollar dollars|cent cents|dozen dozens"
)
_UNITS = {unit: kind for kind in _KINDS_OF_UNITS.split("|") for unit in kind.split()}
# Numbers that come with no question: small ones, parts of a clock and a calendar, of a hundred, of a dozen.
_COMMON = frozenset([*range(11), 12, 24, 30, 31, 52, 60, 90, 100, 180, 360, 365, 366, 1000, 3600, 0.5, 0.25, 1.5])
_SMALL = 2
_MOST = 16  # numbers of a question and an answer that are combined
_LAST = 300  # characters at the end that have the result


def arithmetic(candidate: Candidate) -> str:
    """Say whether an equation does not hold."""
    found = candidate.read.equations
    return f"{found.wrong} of {found.checked} equations do not hold" if found.wrong else ""


def final_answer(candidate: Candidate) -> str:
    """Say whether the number that was asked for is missing."""
    read = candidate.read
    if read.asked is None or read.parts[1] or not numerals.written(candidate.question):
        return ""  # "how much" of something that is not computed may have an answer in words
    prose = read.prose
    if not re.search(r"\d", prose) and not _SPELLED.search(prose):
        return "no number is given, though one was asked for"
    if read.asked.startswith("many ") and _VARIABLE.search(prose.rstrip().splitlines()[-1][-_LAST:]):
        return "the result has an unknown in it"
    return ""


def impossible(candidate: Candidate) -> str:
    """Say whether a number of whole things is negative or a fraction."""
    asked = candidate.read.asked
    if asked is None or not asked.startswith("many ") or (result := candidate.read.result) is None:
        return ""
    things = _LETTERS.findall(asked)[1:6]
    if not things or _MEASURED & {*things[:3]} or _AVERAGED.search(asked):
        return ""
    if result.is_percent or result.is_money or result.unit in _MEASURED:
        return ""
    lowest = min(result.value, *candidate.read.equations.results, 0.0)
    if lowest < 0 and not _MAY_FALL.search(candidate.question):
        return "a number of things is negative"
    return "" if result.is_whole else "a number of whole things is a fraction"


def units(candidate: Candidate) -> str:
    """Say whether the result is in another unit than the one asked for."""
    asked = candidate.read.asked
    if asked is None or not asked.startswith("many ") or (result := candidate.read.result) is None:
        return ""
    wanted = next((_UNITS[word] for word in _LETTERS.findall(asked)[1:3] if word in _UNITS), None)
    given = _UNITS.get(result.unit)
    return "the result is in another unit than was asked for" if wanted and given and given != wanted else ""


def unused_numbers(candidate: Candidate) -> str:
    """Say whether an answer that computes leaves out a number of its question."""
    read = candidate.read
    if read.asked is None or not read.equations.checked:
        return ""
    said = numerals.written(read.prose) | numerals.spelled(read.prose)
    asked = numerals.written(candidate.question) - {0.0, 1.0}
    asked |= {number for number in numerals.spelled(candidate.question) if number > _SMALL}  # "one of them", "both"
    return "a number of the question is not used" if any(not _forms(number) & said for number in asked) else ""


def unknown_numbers(candidate: Candidate) -> str:
    """Say whether an answer computes with a number that its question neither has nor gives in one step."""
    read = candidate.read
    if read.asked is None or not read.equations.checked:
        return ""
    given = numerals.written(candidate.question) | numerals.spelled(candidate.question)
    known = {form for number in given for form in _forms(number)} | _COMMON
    for operands, result in read.equations.steps:
        others = {round(number, 6) for number in operands} - known
        if others and not others <= _made_of(sorted(given)[:_MOST]):
            return "it computes with a number that the question does not have"
        if result is not None:
            known.add(round(result, 6))
            given.add(result)
    return ""


def _made_of(numbers: list[float]) -> set[float]:
    """Return what one step makes of two numbers."""
    made: set[float] = set()
    for one in numbers:
        for other in (*numbers, 2.0, 0.5):
            made |= {
                round(value, 6) for value in (one + other, one - other, one * other, one / other if other else one)
            }
    return made


def rounded(candidate: Candidate) -> str:
    """Say whether the result is rounded, though all numbers of the question are whole."""
    read = candidate.read
    if read.asked is None or read.result is None or read.result.is_whole:
        return ""
    asked = numerals.written(candidate.question)
    return "whole numbers give a fraction" if asked and all(number == int(number) for number in asked) else ""


def _forms(number: float) -> set[float]:
    """Return how a number may be written: as it is, as a share of a hundred, with the sign left out."""
    share = number / 100
    forms = (
        number,
        abs(number),
        share,
        1 - share,
        1 + share,
        100 - number,
        100 + number,
        100 * number,
        1 / number if number else 0.0,
    )
    return {round(form, 6) for form in forms}
