"""Tools for an API that has only functions, and calls of them back."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from millrace.types import Api, CallPiece, Sealed, Tool, ToolCall, calls_of
from millrace.types.tool_choice import ToolChoice
from millrace.upstreams.sent_tools import LONGEST, SentTools

PLAIN = Tool(name="depth", description="d", parameters={"type": "object"})
IN_SEA = Tool(name="depth", namespace="sea", namespace_description="Of the sea", parameters={"type": "object"})
PATCH = Tool(
    name="patch",
    description="Patch it",
    is_custom=True,
    namespace="sea",
    namespace_description="Of the sea",
    grammar={"type": "grammar", "syntax": "lark", "definition": "start: /a+/"},
)
HOSTED = Tool(name="web_search", hosted=Sealed(api=Api.RESPONSES, fields={"type": "web_search"}))


def pieces(name: str, arguments: str, cuts: list[int]) -> list[CallPiece]:
    """Return a call as a provider sends it, cut at these places."""
    edges = [0, *sorted(cut % (len(arguments) + 1) for cut in cuts), len(arguments)]
    parts = [arguments[start:end] for start, end in itertools.pairwise(edges)]
    return [CallPiece(index=0, id="c", name=name), *(CallPiece(index=0, arguments=part) for part in parts)]


def unescaped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def back(tools: SentTools, given: list[CallPiece]) -> ToolCall:
    found = [piece for one in given if (piece := tools.back(one)) is not None]
    (call,) = calls_of([*found, *tools.rest()])
    return call


def test_what_is_sent() -> None:
    """A namespace is described once, and a grammar in words."""
    plain, in_sea, patch = SentTools([PLAIN, IN_SEA, PATCH, HOSTED]).functions
    assert plain is PLAIN
    assert (in_sea.name, in_sea.namespace, in_sea.description) == ("sea__depth", "", "It is one of sea: Of the sea")
    assert (patch.name, patch.is_custom, patch.grammar) == ("sea__patch", False, None)
    assert patch.description == "Patch it\n\n`input` must be text of this grammar (lark):\nstart: /a+/"
    assert patch.parameters is not None
    assert patch.parameters["required"] == ["input"]


def test_only_tools_that_are_allowed_are_sent() -> None:
    choice = ToolChoice("auto", allowed=(("sea", "patch"),))
    assert [tool.name for tool in SentTools([PLAIN, IN_SEA, PATCH], choice).functions] == ["sea__patch"]


@given(st.lists(st.tuples(st.sampled_from(["", "n", "n.m", "n_m", "ü" * 70]), st.text("ab._é", min_size=1))))
def test_names_are_unique_and_fit(given_names: list[tuple[str, str]]) -> None:
    """Those without a namespace stay as they are."""
    keys = [*dict.fromkeys(given_names)]
    tools = SentTools([Tool(name=name, namespace=namespace) for namespace, name in keys])
    names = [tools.name_of(key) for key in keys]
    assert len({*names}) == len(names)
    assert all(
        sent == name if not namespace else len(sent) <= LONGEST
        for sent, (namespace, name) in zip(names, keys, strict=True)
    )


@given(st.text(), st.lists(st.integers(0, 500), max_size=6), st.sampled_from([json.dumps, unescaped]))
def test_the_text_of_a_custom_call_comes_back_however_it_is_cut(
    text: str, cuts: list[int], write: Callable[[object], str]
) -> None:
    arguments = write({"input": text})
    call = back(SentTools([PATCH]), pieces("sea__patch", arguments, cuts))
    assert call == ToolCall(id="c", name="patch", namespace="sea", is_custom=True, arguments=text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("*** Begin Patch", "*** Begin Patch"),  # no JSON at all
        ('{"patch": "a"}', "a"),
        ('{"lang": "x", "input": "a"}', "a"),
        ('"a"', "a"),
        ('{"input": {"a": 1}}', '{"input": {"a": 1}}'),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}'),
        ('{"input": "a\\q"}', "a\\q"),  # no escape of JSON
        ('{"input": "a', "a"),
        ('{"input": "a\\ud83c"}', "a\\ud83c"),  # half a character
        ("", ""),
    ],
)
def test_arguments_of_another_form_are_the_text_or_have_it(arguments: str, text: str) -> None:
    assert back(SentTools([PATCH]), pieces("sea__patch", arguments, [3])).arguments == text


def test_text_is_passed_on_as_it_comes() -> None:
    tools = SentTools([PATCH])
    given_pieces = pieces("sea__patch", '{"input": "abcdef"}', [14, 17])
    shown = [tools.back(piece) for piece in given_pieces]
    assert [piece and piece.arguments for piece in shown] == ["", "abc", "def", None]


def test_calls_of_a_history_are_sent_under_the_same_names() -> None:
    """Also those of tools that are not offered any more."""
    tools = SentTools([PLAIN])
    called = ToolCall(id="c", name="patch", namespace="sea", is_custom=True, arguments='"\n')
    sent = tools.sent(called)
    assert (sent.name, json.loads(sent.arguments)) == ("sea__patch", {"input": '"\n'})
    plain = ToolCall(id="c", name="depth", arguments="{}")
    assert tools.sent(plain) is plain


def test_a_function_is_not_looked_into() -> None:
    arguments: Any = '{"input": "a"}'
    assert back(SentTools([PLAIN]), pieces("depth", arguments, [])).arguments == arguments
