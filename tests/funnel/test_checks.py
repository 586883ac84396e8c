"""What is judged weak and what is not, tried on the phrasings that models use and on texts that only resemble them."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace.funnel import checks
from millrace.funnel.checks import NAMES, Candidate
from millrace.types import Finish, FinishReason, Format
from tests.support.inline_schemas import InlineSchemas

STOP = Finish(reason=FinishReason.STOP)


def judged(text: str, finish: Finish = STOP, form_: Format | None = None) -> str | None:
    """Return the name of the check a whole answer fails, if any."""
    return asyncio.run(checks.judge(Candidate(text=text, finish=finish, format=form_), InlineSchemas())).check


def after(schema: dict[str, Any]) -> Format:
    return Format(kind="json_schema", name="answer", schema=schema)


UNSURE = [
    "I'm not 100% sure.",
    "I was unable to find it.",
    "I don't have access to that.",
    "Great question! I don't know.",
    "I don't know.",
    "I don’t know the answer to that.",
    "I do not know that.",
    "I'm not sure.",
    "I’m really not sure how to work that out.",
    "I am not entirely certain about this.",
    "I am unsure.",
    "I'm not familiar with that term.",
    "I honestly don't know.",
    "I don't have enough information to answer that.",
    "I don't have any specific information about it.",
    "I have no idea.",
    "I really have no clue what this means.",
    "I couldn't find anything on that.",
    "I can't say for certain.",
    "I cannot determine the answer from the text.",
    "I'M NOT SURE ABOUT THAT.",
    "i don't know why the sky is dark at night",
    "Hmm, I'm not sure.",
    "Well, honestly, I don't know.",
    "Sorry, but I don't know.",
    "I'm sorry, but I'm not sure which one you mean.",
    "I'm afraid I don't know.",
    "Unfortunately, I do not have the answer.",
    "As an AI language model, I don't have information about that.",
    "There is not enough information to answer.",
    "There's no information about that in the text.",
    "No idea.",
    "Not sure!",
    "Unknown.",
    "Dunno",
    "Hard to say.",
    "  \n**I don't know.**",
    "- I'm not sure.",
    "Iʼm not sure.",
    "I`m not sure.",
]

REFUSALS = [
    "I'm sorry — I can't help with that.",
    "I'm sorry, I can't.",
    "I cannot.",
    "I can't help with that.",
    "I can’t help with that.",
    "I cannot assist with this request.",
    "I CANNOT HELP WITH THAT.",
    "I can not provide that.",
    "I won't write that for you.",
    "I will not discuss this.",
    "I must decline.",
    "I must respectfully decline to answer.",
    "I'm unable to help with that.",
    "I am not able to provide medical advice.",
    "I'm not allowed to talk about this.",
    "I am not comfortable to continue.",
    "I refuse to answer.",
    "I decline to answer that.",
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "Sorry, I can't do that.",
    "My apologies, but I cannot fulfil this.",
    "I apologize, but I cannot create that.",
    "As an AI, I cannot engage with this.",
    "As a large language model, I can't share that.",
    "Unfortunately, I can't answer this.",
    "This request violates our policy.",
    "Your request goes against the rules.",
]

GOOD = [
    "I can't help but notice that the sum is 12.",
    "I have to give credit to Euler.",
    "I will not give up on this proof: here it is.",
    "I can't tell you how happy I am to explain.",
    "I can't say enough good things about it.",
    "I don't know about you, but Paris is the capital.",
    "No idea, however small, is lost.",
    "Paris.",
    "No.",
    "0",
    "Unknown Pleasures is an album by Joy Division.",
    "Not sure-footed animals fall; goats do not.",
    "No idea is ever entirely new.",
    "'I don't know' is 'je ne sais pas' in French.",
    "“I’m not sure” is a polite way to decline.",
    '"I can\'t help with that" is what the clerk said.',
    "« Je ne sais pas » means that one does not know.",
    "‘I can't help it’ is an idiom.",
    "The speaker says: I don't know.",
    "You can't help with that, but a doctor can.",
    "He said he wasn't sure, and left.",
    "I can help with that: press the red button.",
    "I know that the Moon is 384,400 km away.",
    "I am sure: it is Canberra.",
    "I don't think so; seven times eight is 56.",
    "I can't recommend it enough.",
    "It is not known to whom the letter was sent, but it was found in 1901.",
    "Sorry is an English word of Germanic origin.",
    "Well, it depends on the altitude: higher up, water boils sooner.",
    "As an AI model grows, its training costs rise.",
    "Unsure footing is the main cause of falls.",
    "Refusal is a noun.",
    "我不知道。",
    '```python\nraise ValueError("I don\'t know")\n```',
    "Many people would say: sorry, I cannot answer. But the answer is simple: add one. " * 3,
    "The halting problem cannot be decided by any program. I'm not sure who coined the name. " * 3,
    "x" * 400 + " I don't know.",
]


@pytest.mark.parametrize("text", UNSURE)
def test_unsure(text: str) -> None:
    """An answer that says that it does not know, however it is dressed."""
    assert judged(text) == "unsure"


@pytest.mark.parametrize("text", REFUSALS)
def test_refusal(text: str) -> None:
    """An answer that declines, however politely."""
    assert judged(text) == "refusal"


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    """An answer that answers, even where it quotes or mentions such words."""
    assert judged(text) is None


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\n", "\u00a0\u2003"])
def test_empty(text: str) -> None:
    """White space is no answer."""
    assert judged(text) == "empty"


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
def test_an_answer_that_did_not_stop_by_itself_is_cut_off(reason: FinishReason) -> None:
    """At its cap, or by the provider's filter."""
    assert judged("Paris.", Finish(reason=reason)) == "cut_off"


def test_what_the_provider_marks_as_a_refusal_is_one() -> None:
    """Whatever its words are."""
    assert judged("Let us talk of something else.", Finish(reason=FinishReason.STOP, refused=True)) == "refusal"


CITY = after(
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 0}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
)
NESTED = after({"$ref": "#/$defs/node", "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}})
OBJECT = Format(kind="json_object")


@pytest.mark.parametrize(
    ("text", "form_", "check"),
    [
        ("{}", OBJECT, None),
        (' {"a": [1, null]}\n', OBJECT, None),
        ("[]", OBJECT, "form"),
        ("3", OBJECT, "form"),
        ("null", OBJECT, "form"),
        ("It is Paris.", OBJECT, "form"),
        ('{"a": 1', OBJECT, "form"),
        ('{"a": 1} and more', OBJECT, "form"),
        ('```json\n{"a": 1}\n```', OBJECT, "form"),
        ("{'a': 1}", OBJECT, "form"),
        ('{"a": NaN}', OBJECT, "form"),
        ('{"a": 1e400}', OBJECT, "form"),
        ('{"a": ' * 100_000, OBJECT, "form"),
        ("[" * 5000 + "]" * 5000, NESTED, "form"),
        ("[" * 200 + "]" * 200, NESTED, None),
        ("[" * 200 + "1" + "]" * 200, NESTED, "form"),
        ('{"city": "Bern", "people": 134794}', CITY, None),
        ('{"city": "Bern", "people": -1}', CITY, "form"),
        ('{"city": "Bern", "people": "many"}', CITY, "form"),
        ('{"city": "Bern"}', CITY, "form"),
        ('{"city": "Bern", "people": 1, "mayor": "x"}', CITY, "form"),
        ("Bern", CITY, "form"),
        ("3", after({"type": "integer"}), None),
        ("1" + "0" * 400, after({"type": "integer"}), None),
    ],
)
def test_form(text: str, form_: Format, check: str | None) -> None:
    """Any JSON object, or JSON after a schema; what is no JSON, too deep or out of range is not of its form."""
    assert judged(text, STOP, form_) == check


def test_the_first_failed_check_is_the_one_named() -> None:
    """Cheapest first, in the order that is told to clients."""
    assert NAMES[:4] == ("empty", "cut_off", "refusal", "unsure")
    assert NAMES[-5:] == ("form", "pattern", "tool_call", "opening", "learned")
    cut = Finish(reason=FinishReason.LENGTH, refused=True)
    assert judged(" ", cut, OBJECT) == "empty"
    assert judged("I don't know", cut, OBJECT) == "cut_off"
    assert judged("I don't know", Finish(reason=FinishReason.STOP, refused=True), OBJECT) == "refusal"
    assert judged("I don't know", STOP, OBJECT) == "unsure"
    assert judged("Paris", STOP, OBJECT) == "form"
    assert judged("{}", STOP, OBJECT) is None


@pytest.mark.parametrize(
    ("text", "check"),
    [("I'm sorry, but I can't help you.", "refusal"), ("I'm not sure, but", "unsure"), ("Paris is", None), ("", None)],
)
def test_a_beginning_is_judged_by_its_words_alone(text: str, check: str | None) -> None:
    """It can be neither empty, nor cut off, nor of a form."""
    verdict = checks.judge_beginning(Candidate(text=text, finish=None, format=CITY))
    assert (verdict.check, verdict.passed) == (check, check is None)


NASTY = ["i ", "I'm ", "sorry", ", ", "but ", "as an ai ", "as a ", "large ", "well", "hmm", "mm", "!", " ", "\n", "*"]
NASTY += [
    "not ",
    "really ",
    "i am ",
    "can't ",
    "do ",
    "have ",
    "uh",
    "-",
    "apologies",
    "afraid",
    "ü",
    "that ",
    "\u2019",
]


@pytest.mark.timeout(120)
@given(st.lists(st.sampled_from(NASTY), min_size=1, max_size=6), st.lists(st.sampled_from(NASTY), max_size=4))
def test_no_input_makes_the_patterns_backtrack_for_long(repeated: list[str], tail: list[str]) -> None:
    """Whatever a model repeats for 300 characters, all checks end; the timeout is a guard against an explosion."""
    unit = "".join(repeated)
    text = (unit * (300 // len(unit) + 1))[: 300 - len("".join(tail))] + "".join(tail)
    assert judged(text) in (*NAMES, None)
    assert checks.judge_beginning(Candidate(text=text, finish=None)).check in (*NAMES, None)
