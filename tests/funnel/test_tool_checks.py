"""What the checks say of answers with tool calls, refusals beside the text, and schemas of the asker's own."""

import asyncio
from typing import Any

import pytest

from millrace.funnel import checks
from millrace.funnel.checks import NAMES, Candidate
from millrace.types import (
    Api,
    Aside,
    CallPiece,
    Finish,
    FinishReason,
    Format,
    Message,
    Refusal,
    Sealed,
    Thought,
    Tool,
    ToolCall,
)
from millrace.types.tool_choice import ToolChoice
from tests.support.inline_schemas import InlineSchemas
from tests.support.scripted_models import CALLED, CUT, STOP, request

DEPTH = Tool(
    name="depth",
    parameters={
        "type": "object",
        "properties": {"of": {"type": "string"}},
        "required": ["of"],
        "additionalProperties": False,
    },
)
ANY = Tool(name="anything")
GOOD = ToolCall(id="call_1", name="depth", arguments='{"of": "the pond"}')


def judged(*calls: tuple[str, str], text: str = "", finish: Finish = CALLED, **fields: Any) -> str | None:
    made = tuple(ToolCall(id="c", name=name, arguments=arguments) for name, arguments in calls)
    candidate = Candidate(text=text, finish=finish, tools=(DEPTH, ANY), calls=made, **fields)
    return asyncio.run(checks.judge(candidate, InlineSchemas())).check


@pytest.mark.parametrize(
    ("name", "arguments", "check"),
    [
        ("depth", '{"of": "the pond"}', None),
        ("depth", "{}", "tool_call"),
        ("depth", '{"of": 3}', "tool_call"),
        ("depth", '{"of": "a", "in": "feet"}', "tool_call"),
        ("depth", '{"of": "the po', "tool_call"),
        ("depth", '"the pond"', "tool_call"),
        ("depth", "", "tool_call"),
        ("height", '{"of": "the pond"}', "tool_call"),
        ("", "{}", "tool_call"),
        ("anything", "{}", None),
        ("anything", '{"of": [1, null]}', None),
        ("anything", "[]", "tool_call"),
        ("anything", '{"of":' * 100_000, "tool_call"),
    ],
)
def test_a_call_names_a_tool_and_fits_it(name: str, arguments: str, check: str | None) -> None:
    """An offered one; its arguments are an object after its parameters."""
    assert judged((name, arguments)) == check


def test_one_bad_call_is_enough() -> None:
    """Of several at once, each is looked at."""
    assert judged(("anything", "{}"), ("depth", '{"of": "it"}')) is None
    assert judged(("anything", "{}"), ("depth", "{}")) == "tool_call"


@pytest.mark.parametrize(
    ("choice", "called", "check"),
    [
        (None, [], None),
        (ToolChoice("auto"), [], None),
        (ToolChoice("required"), [], "tool_call"),
        (ToolChoice("required"), ["anything"], None),
        (ToolChoice("function", "anything"), [], "tool_call"),
        (ToolChoice("function", "anything"), ["anything"], None),
        (ToolChoice("function", "anything"), ["depth"], "tool_call"),
        (ToolChoice("function", "anything"), ["anything", "anything"], None),
    ],
)
def test_a_call_that_is_asked_for_must_come(choice: ToolChoice | None, called: list[str], check: str | None) -> None:
    """Text in its place is not what the asker can use."""
    made = [(name, '{"of": "it"}') for name in called]
    assert judged(*made, text="Paris.", finish=STOP, tool_choice=choice) == check


@pytest.mark.parametrize("finish", [STOP, CALLED])
@pytest.mark.parametrize("text", ["", "I don't know. Let me look.", "I can't answer that yet."])
def test_an_answer_with_calls_is_judged_by_its_calls(finish: Finish, text: str) -> None:
    """It is neither empty nor cut off, its words are no doubt, and its form is still to come."""
    good = (("depth", '{"of": "it"}'),)
    form_, schema = Format(kind="json_object"), {"type": "array"}
    assert judged(*good, text=text, finish=finish, format=form_, schema=schema) is None
    assert judged(*good, text=text, finish=CUT) == "cut_off"
    assert judged(text="", finish=finish) == "empty"


def test_a_refusal_beside_the_text_is_one() -> None:
    """With words, without, and with a call."""
    for text in ("", "Paris."):
        assert judged(text=text, finish=STOP, refusal="I will not.") == "refusal"
    assert judged(("depth", '{"of": "it"}'), refusal="I will not.") == "refusal"


@pytest.mark.parametrize(
    ("text", "format_", "check"),
    [
        ('{"a": 1}', None, None),
        ('{"a": "x"}', None, "form"),
        ("a", None, "form"),
        ('{"a": 1}', Format(kind="json_object"), None),
        ('{"a": 1}', Format(kind="json_schema", schema={"required": ["b"]}), "form"),
    ],
)
def test_a_schema_of_the_askers_own(text: str, format_: Format | None, check: str | None) -> None:
    """It must hold beside the declared form, if there is one."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert judged(text=text, finish=STOP, format=format_, schema=schema) == check


async def test_only_the_named_checks_run() -> None:
    """In their own order, whatever order they are named in; `asked` says which."""
    candidate = Candidate(text="I don't know.", finish=CUT)
    assert (await checks.judge(candidate, InlineSchemas(), ("unsure",))).check == "unsure"
    assert (await checks.judge(candidate, InlineSchemas(), ())).passed
    assert checks.judge_beginning(candidate, ("empty", "form")).passed
    assert {*NAMES} - {*checks.selected(request())} == {"citations"}  # which only runs where it is named
    assert checks.selected(request(checks=("form", "empty"))) == ("empty", "form")
    assert checks.selected(request(checks=())) == ()
    assert checks.selected(request(checks=("empty",), check_schema={})) == ("empty", "form")


def test_a_candidate_is_put_together_of_what_was_said() -> None:
    """Calls out of their pieces, a refusal out of its words; reasoning is not judged."""
    said: list[Any] = [
        Thought("I don't know."),
        CallPiece(index=0, id="call_1", name="depth", arguments='{"of": '),
        Refusal("No"),
        CallPiece(index=0, arguments='"the pond"}'),
        Refusal("."),
    ]
    asked = request(tools=(DEPTH,), format=Format(kind="json_object"), check_schema={"a": 1})
    made = Candidate.of(asked, "text", said, CALLED)
    assert (made.text, made.calls, made.refusal, made.finish) == ("text", (GOOD,), "No.", CALLED)
    assert (made.tools, made.format, made.schema) == ((DEPTH,), asked.prompt.format, {"a": 1})


def test_a_finish_of_a_filter_is_cut_off() -> None:
    """Also behind a call."""
    assert judged(("anything", "{}"), finish=Finish(reason=FinishReason.CONTENT_FILTER)) == "cut_off"


IN_SEA = Tool(name="depth", namespace="sea", parameters={"type": "object", "required": ["at"]})
PATCH = Tool(name="patch", namespace="sea", is_custom=True)
SEARCH = Tool(name="tool_search", hosted=Sealed(api=Api.RESPONSES, fields={"type": "tool_search"}))
FOUND = Sealed(api=Api.RESPONSES, fields={"type": "tool_search_output", "tools": []})


@pytest.mark.parametrize(
    ("call", "check"),
    [
        (ToolCall(id="c", name="depth", namespace="sea", arguments='{"at": 1}'), None),
        (ToolCall(id="c", name="depth", namespace="sea", arguments='{"of": "it"}'), "tool_call"),
        (ToolCall(id="c", name="depth", namespace="air", arguments='{"at": 1}'), "tool_call"),
        (ToolCall(id="c", name="patch", arguments="*{"), "tool_call"),
        (ToolCall(id="c", name="patch", namespace="sea", is_custom=True, arguments="*{"), None),  # it is no JSON
    ],
)
def test_a_tool_is_known_by_its_namespace_and_its_name(call: ToolCall, check: str | None) -> None:
    candidate = Candidate(text="", finish=CALLED, tools=(DEPTH, IN_SEA, PATCH), calls=(call,))
    assert asyncio.run(checks.judge(candidate, InlineSchemas())).check == check


def test_a_call_of_a_tool_that_must_not_be_called_fails() -> None:
    choice = ToolChoice("auto", allowed=(("", "anything"),))
    assert judged(("anything", "{}"), tool_choice=choice) is None
    assert judged(("depth", '{"of": "it"}'), tool_choice=choice) == "tool_call"


@pytest.mark.parametrize("found", ["in the answer", "before", ""])
def test_a_model_that_has_searched_for_tools_may_call_what_it_found(found: str) -> None:
    """Which tools those are only its provider, or the client, knows."""
    before = (Message(role="tool", sealed=(FOUND,)),) if found == "before" else ()
    asked = request(Message(role="user", parts=("?",)), *before, tools=(DEPTH, SEARCH))
    asides: list[Aside] = [
        CallPiece(index=0, id="c", name="height", arguments="{}"),
        *([FOUND] if found == "in the answer" else []),
    ]
    candidate = Candidate.of(asked, "", asides, CALLED)
    verdict = asyncio.run(checks.judge(candidate, InlineSchemas()))
    assert verdict.check == (None if found else "tool_call")
