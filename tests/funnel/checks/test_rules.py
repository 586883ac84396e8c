"""What each rule finds, and what it must leave alone: false alarms are worse than what is missed."""

# ruff: noqa: E501 - one example a line

import pytest

from millrace.funnel.checks import NAMES, Candidate
from millrace.funnel.checks.judge import reasons
from millrace.types import Finish, FinishReason, Format, Tool

STOP = Finish(reason=FinishReason.STOP)
SUM = "Tom has 3 boxes of 12 apples each and eats 5 of them. How many apples are left?"
DRIVE = "A car drives 150 miles at 60 miles per hour. How many hours does it take?"
GERMAN = "Warum ist der Himmel am Tag blau und am Abend oft rot? Bitte erkläre es mir in zwei Sätzen."
ENGLISH = (
    "The light of the sun is scattered by the air, and blue light is scattered more than the red light that is left."
)
PLAIN = "Why is the sky blue during the day and red in the evening? Please explain it to me in two sentences."
LIST = (
    "Here are some ideas for the trip:\n\n1. Hike to the lake\n2. Visit the old town\n3. Rent a small boat on the river"
)
POEM = "The mill wheel turns beneath the moon\nAnd slow and silver flows the stream\nThe miller hums his evening tune\nAnd all the valley starts to dream"


def failed(question: str, text: str) -> dict[str, str]:
    """Return what the answer fails, and why."""
    candidate = Candidate(text=text, finish=STOP, question=question)
    return {name: reason for name, reason in reasons(candidate, NAMES).items() if reason}


@pytest.mark.parametrize(
    ("name", "question", "text"),
    [
        ("loop", "Explain tides.", "The tide rises because of the moon. " + "And the moon pulls the water. " * 12),
        ("loop", "Explain tides.", "It is the moon " + "the moon " * 40),
        ("echo", PLAIN, "Why is the sky blue during the day and red in the evening? Please explain it in two sentences."),
        ("unfinished", SUM, "There are 3 boxes of 12 apples, which is 36. After eating 5 there are 36 -"),
        ("unfinished", SUM, "There are 3 boxes of 12 apples, so Tom has 3 * 12 = 3 *"),
        ("unfinished", PLAIN, "The air scatters blue light. It does so more than red light. In the evening the path of the"),
        ("unfinished", SUM, "He bought them for $4,000. The rest costs twice as much, so he pays 8,00"),
        ("unfinished", PLAIN, "To see why the sky is blue, we look at the following equation:"),
        ("language", GERMAN, ENGLISH),
        ("language", PLAIN, "天空之所以是蓝色的，是因为空气分子对短波长的蓝光散射得更多，而傍晚时光线经过更厚的大气。"),
        ("language", PLAIN, "Das Licht der Sonne wird von der Luft gestreut, und das blaue Licht ist dabei nicht so stabil wie das rote."),
        ("final_answer", SUM, "Tom eats some of his apples, and the rest of these are left in the boxes."),
        ("impossible_number", SUM, "3 boxes of apples less what he eats leaves Tom with 30.5 apples."),
        ("impossible_number", SUM, "He has eaten more than there were, so he has -2 apples left."),
        ("arithmetic", SUM, "There are 3 * 12 = 38 apples, so 33 are left."),
        ("code", "Write a function that adds two numbers.", "```python\ndef add(a, b)\n    return a + b\n```"),
        ("code", "Give me the settings as JSON.", '```json\n{"a": 1,, "b": 2}\n```'),
        ("hedging", SUM, "It is not clear whether Tom eats the apples, so assuming that he does, 31 are left."),
        ("units", DRIVE, "150 / 60 = 2.5 and that is 150 minutes."),
        ("rounded", SUM, "The apples that are left are 30.33."),
        ("unused_numbers", SUM, "There are 3 * 12 = 36 apples."),
        ("unknown_numbers", SUM, "There are 3 * 12 = 36 apples, and 36 - 22 = 14."),
        ("length", "Hi", "word " * 2000),
    ],
)  # fmt: skip
def test_it_finds(name: str, question: str, text: str) -> None:
    assert name in failed(question, text)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (SUM, "31"),
        (SUM, "Tom has 31 apples left."),
        (SUM, "Thirty-one."),
        (SUM, "3 * 12 = 36 apples, and 36 - 5 = 31.\n\n**31 apples**"),
        (DRIVE, "2.5 hours"),
        ("What is 6 * 7?", "4"),
        ("What is the capital of France?", "Paris"),
        ("How much do you know about tides?", "A good deal, so ask away."),
        ("How many people like jazz?", "That depends on the country."),
        ("Plan a trip.", LIST),
        ("Write a poem about a mill.", POEM),
        ("Write a song.", "La la la la la la. " * 3 + "Oh, the river runs. " + "La la la la la la. " * 3),
        ("Repeat hello 30 times.", "hello " * 30),
        ("Translate into German: Where is the station?", "Wo ist der Bahnhof, und wie komme ich von hier aus zu dem Zug?"),
        ("Übersetze ins Englische: " + GERMAN, ENGLISH),
        ("How do I say this in Spanish: I would like the bill, and the menu for the evening?", "Me gustaría la cuenta y el menú de la noche, por favor, que es para los dos."),
        ("What does « la vie est belle et le ciel est bleu pour tous les gens » mean?", "It means that life is beautiful, and that the sky is blue for all of the people."),
        (GERMAN, "Das Sonnenlicht wird von der Luft gestreut, und das blaue Licht wird stärker gestreut als das rote."),
        ("Which language should I use?", "I would use C++"),
        ("Where is the page?", "You will find all of it on this page https://example.com/docs/"),
        ("Write a letter to my aunt.", "Dear Aunt Mary,\n\nThank you for the book. I have read it twice.\n\nYours sincerely,\n\nTom"),
        ("Add two numbers in Python.", "```python\ndef add(a: int, b: int) -> int:\n    return a + b\n```\nCall it as `add(1, 2)`."),
        ("Show a REPL session.", "```python\n>>> 1 + 1\n2\n```"),
        ("Sketch a class.", "```python\nclass Mill:\n    ...\n    def turn(self): return self.\n```"),
        ("Why is this a syntax error?", "Because of the colon:\n```python\nif x\n    y\n```"),
        ("Show some JSON lines.", '```json\n{"a": 1}\n{"a": 2}\n```'),
        ("Part of a package.json?", '```json\n"name": "mill",\n"version": "1"\n```'),
        ("Draw a table.", "| a | b |\n|---|---|\n| 1 | 2 |\n| 1 | 2 |\n| 1 | 2 |\n| 1 | 2 |\n| 1 | 2 |"),
        ("Draw a line.", "-" * 200),
        ("Digits of a third?", "0." + "3" * 300),
        ("What is the average number of children?", "About 1.7 children"),
        ("What was the temperature? How many degrees?", "-5 degrees"),
        ("Is 2 + 2 = 5?", "No, 2 + 2 = 4."),
        ("x + 3 = 7. What is x?", "x = 7 - 3 = 4"),
        ("Complete: The quick brown fox", "jumps over the lazy dog and runs into the"[:20]),
        ("What is Rust's ownership? Answer in a word or a short sentence, not in code.", "Each value has one owner; when the owner goes out of scope, the value is dropped"),
    ],
)  # fmt: skip
def test_it_leaves_alone(question: str, text: str) -> None:
    found = failed(question, text)
    assert not {name for name in found if name not in {"citations", "hedging", "rounded"}}, found


def test_rules_of_prose_say_nothing_of_formats_tools_and_calls() -> None:
    wrong = '{"text": "2 + 2 = 5"}'
    as_format = Candidate(text=wrong, finish=STOP, question=SUM, format=Format(kind="json_object"))
    with_tools = Candidate(text="2 + 2 = 5", finish=STOP, question=SUM, tools=(Tool(name="add"),))
    for candidate in (as_format, with_tools):
        assert not any(reasons(candidate, NAMES).values())
    assert any(reasons(Candidate(text="2 + 2 = 5", finish=STOP, question=SUM), NAMES).values())


def test_a_long_answer_is_read_at_its_ends_only() -> None:
    text = "The miller waits beside the water. " * 2 + "Another sentence follows, with 2 + 2 = 4. " + "w " * 100_000
    candidate = Candidate(text=text + "And 2 + 2 = 5.", finish=STOP, question=SUM)
    assert len(candidate.read.prose) < 10_000
    assert "arithmetic" in failed(SUM, text + "And 2 + 2 = 5.")


@pytest.mark.parametrize("text", ["-" * 8000 + "1", "(" * 7000, "[" * 8000, "a." * 4000, "not " * 2000 + "x"])
def test_code_that_is_made_to_break_a_parser_does_no_harm(text: str) -> None:
    failed("Write code.", f"```python\n{text}\n```\n```json\n{text}\n```")
