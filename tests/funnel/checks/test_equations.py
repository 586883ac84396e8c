"""Equations that a text writes out are recomputed; what is not surely an equation of numbers is left alone."""

import pytest
from hypothesis import given, strategies as st

from millrace.funnel.checks.equations import recheck

RIGHT = [
    "3 x 60 = 180",
    "3 × 60 = 180 meters",
    "15 * $2.50 = $37.50",
    "20% of 50 = 10",
    "1 1/2 * 4 = 6",
    "15 + 2/3 + 7 = 22 + 2/3 = 22 2/3",
    "1600 / 60 = 26.67 hours",
    "10 / 3 = 3.33, and 10/3 = 3",
    "1.000 + 500 = 1.500",
    "1,000 + 500 = 1,500",
    "45/60 = 75%",
    "(45 / 60) * 100 = 75%",
    "3 cents * 100 = $3",
    "(2 + 3)(4) = 20 and 2(3 + 4) = 14",
    r"\frac{10}{4} = 2.5",
    r"so \(3 \times 4 = 12\)",
    "2^10 = 1024",
    "**3 + 4 = 7**",
    "- 3 + 4 = 7",
    "2. 3 + 4 = 7",
    "5 times 3 = 15",
    "100 - 25 = 75 = 3 * 25",
    "(8 + 1) * 80 kg = 9 * 80 kg = 720 kg",
    "48 grains (of the first) + 36 grains = 84 grains",
    "$11 (cake) + $3 (balloons) = $14",
    "0.67 * 3 = 2",
    "1/3 + 1/6 = 1/2",
    "7 - 9 = -2",
]
WRONG = [
    "3 x 60 = 190",
    "15 * $2.50 = $38.50",
    "20% of 50 = 12",
    "2 + 2 = 5",
    "10/3 = 3.4",
    "1,000 + 500 = 1,600",
    "3 dogs * 4 legs = 11 legs",
    "2(3 + 4) = 15",
    r"so \(3 \times 4 = 13\)",
    "2**10 = 1025",
    "1/3 + 1/6 = 1/3",
    "5 + 3 = 8 and 4 + 4 = 9",
    "4 apples plus 3 apples is 4 + 3 = 8 apples.",
    "5 times 3 = 16",
    "-5 + 3 = 2",
]
LEFT_ALONE = [
    "x = 3 + 4",
    "2x + 3 = 7",
    "3x - 10 = 200",
    "2a + 3b = 7",
    "f(3) + 2 = 7",
    "P(A) = 0.5",
    "5! = 120",
    "5 feet + 3 inches = 63 inches",
    "1 hour + 30 minutes = 90 minutes",
    "10 am + 3 = 1 pm",
    "10:30 + 2:00 = 12:45",
    "7 + 8 = 3 (mod 12)",
    "He claims that 2 + 2 = 5.",
    "2 + 2 = 5 is false.",
    "It is not true that 2 + 2 = 5.",
    "twice 3 + 4 = 10",
    "half of 3 + 4 = 5",
    "11 / 2 = 5 remainder 1",
    "2 + 3 >= 4, 2 + 3 != 6, a == 3 + 4",
    "1 + 1 = 10 in binary",
    "log 100 + 1 = 3",
    "√9 + 1 = 4",
    "5 million + 2 thousand = 5,002,000",
    "version 3.10.1 = 3.10.1",
    "a=1&b=2&c=1+1=3",
    "H2 + O = H2O",
    "",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_holds_is_found_right(text: str) -> None:
    found = recheck(text)
    assert found.checked > 0
    assert found.wrong == 0


@pytest.mark.parametrize("text", WRONG)
def test_what_does_not_hold_is_found_wrong(text: str) -> None:
    assert recheck(text).wrong == 1


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_is_no_equation_of_numbers_is_left_alone(text: str) -> None:
    assert recheck(text).wrong == 0


def test_an_equation_of_the_question_is_not_the_answers_fault() -> None:
    assert recheck("You write 2 + 2 = 5.", "Why do you say 2 + 2 = 5?").wrong == 0
    assert recheck("Then 2 + 2 = 5.", "What is 2 + 2?").wrong == 1


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from("+-*"))
def test_any_right_sum_is_right_and_any_wrong_one_is_wrong(one: int, other: int, sign: str) -> None:
    result = {"+": one + other, "-": one - other, "*": one * other}[sign]
    assert recheck(f"That is {one:,} {sign} {other} = {result:,} in all.").wrong == 0
    assert recheck(f"That is {one} {sign} {other} = {result + 1} in all.").wrong == 1


@given(st.integers(1, 10**4), st.integers(1, 10**3), st.integers(0, 6))
def test_a_rounded_quotient_is_right(one: int, other: int, places: int) -> None:
    assert recheck(f"{one} / {other} = {one / other:.{places}f}").wrong == 0


@given(st.text(alphabet="0123456789 +-*/=().,%$x^aé\n", max_size=80) | st.text(max_size=60))
def test_nothing_raises(text: str) -> None:
    assert recheck(text, text).checked >= 0


def test_a_line_that_no_person_writes_is_not_read() -> None:
    """It would hold the interpreter for a while."""
    assert recheck(f"{'1+' * 30_000}1 = 2").checked == 0
    assert recheck("1 + 1 = 3\n" + "7" * 60_000 + " = 1").wrong == 1
