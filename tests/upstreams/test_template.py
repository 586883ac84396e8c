"""Events that differ in their text alone are read without parsing them, and mean the same."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace.upstreams.template import MAX_MISSES, Template


def event(text: str, **beside: Any) -> bytes:
    fields = {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **beside}
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def learned(text: str = "mill") -> Template:
    template = Template()
    template.learn(event(text), text)
    return template


def test_nothing_fits_before_it_has_learned() -> None:
    assert Template().text_of(event("mill")) == ""
    assert Template().text_of(b"") == ""


@given(st.text())
def test_what_it_reads_is_what_a_parser_reads(text: str) -> None:
    data = event(text.encode("utf-8", "replace").decode())
    read = learned().text_of(data)
    assert read in ("", json.loads(data[6:])["choices"][0]["delta"]["content"])


@pytest.mark.parametrize("text", ["race", " the", "ä", "水車", "🙂", "{}", "a: b, c", "x" * 5000])
def test_a_text_without_quotes_escapes_and_line_breaks_fits(text: str) -> None:
    assert learned().text_of(event(text)) == text


@pytest.mark.parametrize(
    "data",
    [
        event('say "mill"'),
        event("a\\b"),
        event("a\nb"),
        event(""),
        event("race", usage={"prompt_tokens": 1}),
        event("race") + event("race"),
        event("race")[:-1],
        b"data: [DONE]\n\n",
        event("race").replace(b'"index": 0', b'"index": 1'),
        event("race").replace(b"race", b'"}, "finish_reason": "stop", "x": {"y": "'),
        event("race").replace(b"race", b"ra\xff"),
        event("race").replace(b"race", b"ra\r"),
        event("race").replace(b"race", b"ra\n\ndata: "),
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    assert learned().text_of(data) == ""


def test_an_event_that_is_no_plain_text_makes_it_forget() -> None:
    template = learned()
    template.learn(b"data: {}\n\n", "")
    assert template.text_of(event("race")) == ""
    template.learn(event("race"), "race")
    assert template.text_of(event("mill")) == "mill"


def test_a_text_that_stands_there_twice_teaches_nothing() -> None:
    template = Template()
    template.learn(event("c"), "c")
    assert template.text_of(event("d")) == ""


def test_it_gives_up_where_every_event_differs() -> None:
    template = Template()
    for number in range(MAX_MISSES):
        assert template.is_open
        template.learn(event("mill", created=number), "mill")
    assert not template.is_open


def test_it_goes_on_where_events_differ_now_and_then() -> None:
    template = Template()
    for number in range(3 * MAX_MISSES):
        template.learn(event("mill", created=number), "mill")
        assert template.text_of(event("race", created=number)) == "race"
    assert template.is_open
