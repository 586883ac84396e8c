"""What is read from answers as they are written: equality, and facts."""

import time

import pytest

from millrace.evidence.judges.equal import EqualJudge
from millrace.evidence.judges.facts import FactsJudge
from millrace.types import Says


@pytest.mark.parametrize(
    ("earlier", "fresh"),
    [
        ("Paris.", "paris"),
        ("**Paris**", "Paris"),
        ("Cafe\u0301 au lait", "Café au lait"),
        ("It's  open\n\ntoday.", "It’s open today"),
        ("- red\n- blue", "* red\n* blue"),
    ],
)
async def test_equal_sees_through_how_a_text_is_set(earlier: str, fresh: str) -> None:
    assert await EqualJudge().says("?", earlier, fresh) is Says.SAME


@pytest.mark.parametrize(
    ("earlier", "fresh"),
    [
        ("-5", "5"),
        ("5!", "5"),
        ("10⁵", "105"),
        ("Use `ls -a`", "Use `ls -A`"),
        ("if x:\n    a()\n    b()", "if x:\n    a()\nb()"),
        ("...", "?"),
    ],
)
async def test_equal_says_nothing_of_what_may_differ(earlier: str, fresh: str) -> None:
    assert await EqualJudge().says("?", earlier, fresh) is Says.UNSURE


async def test_equal_compares_long_answers_off_the_loop() -> None:
    assert await EqualJudge().says("?", "Word " * 20_000, "word " * 20_000) is Says.SAME


DIFFERENT = [
    ("What does it cost?", "It costs $29 a month.", "It costs $39 a month."),
    ("What does it cost?", "It costs $29 a month.", "It costs 29 euros a month."),
    ("How far is it?", "It is 5 km away.", "It is 5 miles away."),
    ("Do you ship to Norway?", "Yes, we ship to Norway.", "No, we do not."),
    ("Do you ship to Norway?", "Yes, we ship to Norway.", "We do not ship to Norway."),
    ("Liefern Sie nach Wien?", "Ja, wir liefern nach Wien.", "Nein, leider nicht."),
    ("可以退货吗？", "可以，七天内可以退货。", "不可以退货。"),
    ("What is the capital of Australia?", "Canberra", "It is Sydney."),
    ("When was it?", "It was on 9 November 1989.", "It was on 3 October 1990."),
    ("How do I mute?", "Press the left button to mute.", "Press the right button to mute."),
    ("JSON?", '{"port": 8080}', '```json\n{"port": 8081}\n```'),
    ("Python?", "```python\nfor i in range(1, 11):\n    f(i)\n```", "```python\nfor i in range(1, 10):\n    f(i)\n```"),
    ("What is my balance?", "I don't have access to your account.", "Your balance is $120."),
]
SAME = [
    ("How many bones?", "An adult has 206 bones.", "206"),
    ("How long is the trial?", "The trial lasts 2 weeks.", "You can try it for 14 days."),
    ("How long is it?", "1 hour and 30 minutes.", "90 minutes"),
    ("How high is it?", "8.849 m", "It is 8,849 metres high."),
    ("When was it?", "It was on 9 November 1989.", "1989-11-09"),
    ("When does it close?", "It closes at 6 pm.", "At 18:00."),
    ("What are the colours?", "Red, green and blue.", "Blue, red and green."),
    ("JSON?", '{"a": 1, "b": 2}', '```json\n{\n  "b": 2,\n  "a": 1\n}\n```'),
    (
        "Python?",
        "```python\ndef f(a):\n    return a + 1\n```",
        '```python\ndef f(n):\n    """Add."""\n    return n + 1\n```',
    ),
]
UNSURE = [
    ("Which is faster, SSD or HDD?", "An SSD is faster than an HDD.", "An HDD is faster than an SSD."),
    ("Isn't it free?", "Yes, it is free.", "No, you need not pay."),
    ("Is it open?", "Yes, but only in summer.", "No."),
    ("Why is the sky blue?", "Air scatters blue light.", "Because of Rayleigh scattering."),
    ("Python?", "```python\nx = a[::-1]\n```", "```python\nx = ''.join(reversed(a))\n```"),
    ("Is it old?", "", "It is."),
    ("Why?", "long " * 2000 + "5", "long " * 2000 + "6"),
]


@pytest.mark.parametrize(
    ("question", "earlier", "fresh", "says"),
    [
        *((*texts, Says.DIFFERENT) for texts in DIFFERENT),
        *((*texts, Says.SAME) for texts in SAME),
        *((*texts, Says.UNSURE) for texts in UNSURE),
    ],
)
async def test_facts(question: str, earlier: str, fresh: str, says: Says) -> None:
    assert await FactsJudge().says(question, earlier, fresh) is says
    assert await FactsJudge().says(question, fresh, earlier) is says


async def test_a_fact_within_a_long_answer_is_found_where_the_rest_is_the_same() -> None:
    rest = "It was built by a company from Lyon. Artists protested against it. Millions of people visit it every year. "
    text = "The tower was opened in {} after two years of work."
    says = await FactsJudge().says(
        "Tell me about the tower.", rest * 5 + text.format(1889), rest * 5 + text.format(1899)
    )
    assert says is Says.DIFFERENT


@pytest.mark.parametrize(
    "unit", ["(", "a.", "1,", "`", "*", "1 hour and ", "```\n", "é", "- ", "\\d", "在", "2-", "{", "'"]
)
async def test_no_text_takes_long(unit: str) -> None:
    one, two = (unit * 4000)[:3990], (unit * 4000)[:3985] + "end"
    begun = time.process_time()
    await EqualJudge().says(one, one, two)
    await FactsJudge().says(unit, one, two)
    assert time.process_time() - begun < 0.5
