"""Beginnings of prompts in providers' caches: their keys, what is worth keeping, and cuts that leave them alone."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace import tokens
from millrace.funnel import prefixes
from millrace.funnel.catalog import Ruler
from millrace.funnel.prefixes import Prefixes, steady
from millrace.funnel.prompt import trim
from millrace.types import Message, Prompt, Request, Tool
from tests.support.bills import REQUEST
from tests.support.clock import ManualClock

LONG = "Plain words of a long system prompt. " * 120
SYSTEM, SHORT = Message(role="system", parts=(LONG,)), Message(role="system", parts=("Be brief.",))
TOOL = Tool(name="f", description="", parameters={})


def said(role: str, text: str) -> Message:
    return Message(role=role, parts=(text,))


def asked(*messages: Message, tenant: str = "a", session: str = "", **fields: Any) -> Request:
    """Return a request that is long enough; without a session it is its own, as of a client that names none."""
    request_id = f"resp_{id(messages)}"
    prompt, session = Prompt(messages=messages, **fields), session or request_id
    return replace(REQUEST, id=request_id, tenant=tenant, session=session, prompt=prompt, input_tokens=5000)


QUESTION, ANSWER, NEXT = said("user", "How deep?"), said("assistant", "Deep."), said("user", "And wide?")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sent(clock: ManualClock) -> Prefixes:
    return Prefixes(clock)


def test_a_session_has_one_key_for_all_its_turns(sent: Prefixes) -> None:
    """By its name; nobody can tell from it who asks what."""
    first = sent.of(asked(SHORT, QUESTION, session="chat-1")).key
    assert first == sent.of(asked(SHORT, QUESTION, ANSWER, NEXT, session="chat-1")).key
    assert first != sent.of(asked(SHORT, QUESTION, session="chat-2")).key
    assert re.fullmatch("[0-9a-f]{32}", first)


@pytest.mark.parametrize("session", ["", "resp_0001"])
def test_a_session_without_a_name_is_known_by_how_it_begins(sent: Prefixes, session: str) -> None:
    """Whether its client sends the history or names the response before."""
    first = sent.of(asked(SHORT, QUESTION)).key
    assert first == sent.of(asked(SHORT, QUESTION, ANSWER, NEXT, session=session)).key
    assert first != sent.of(asked(SHORT, NEXT)).key


def test_all_that_begin_with_a_long_system_prompt_share_their_key(sent: Prefixes) -> None:
    """They share what the provider keeps too."""
    assert sent.of(asked(SYSTEM, QUESTION)).key == sent.of(asked(SYSTEM, NEXT)).key


def test_tenants_never_share_a_key(sent: Prefixes) -> None:
    """With the same session, and with the same words."""
    for session in ("chat-1", ""):
        keys = {sent.of(asked(SYSTEM, QUESTION, tenant=tenant, session=session)).key for tenant in ("a", "b")}
        assert len(keys) == 2
    assert sent.of(asked(QUESTION, tenant="a\0b", session="c")) != sent.of(asked(QUESTION, tenant="a", session="b\0c"))


def test_a_prompt_that_no_provider_keeps_has_no_key(sent: Prefixes) -> None:
    """It is too short."""
    for count, has_key in ((prefixes.LEAST - 1, False), (prefixes.LEAST, True)):
        assert bool(sent.of(replace(asked(QUESTION, session="s"), input_tokens=count)).key) is has_key


def test_text_that_is_no_text_has_a_key(sent: Prefixes) -> None:
    """Half of a surrogate pair cannot be encoded."""
    assert sent.of(asked(said("user", "\ud800"))).key


def test_what_goes_on_is_read_again(sent: Prefixes) -> None:
    """The second turn of a conversation, and what has tools, which an agent sends again."""
    assert sent.of(asked(QUESTION, ANSWER, NEXT)).is_read_again
    assert sent.of(asked(QUESTION, tools=(TOOL,))).is_read_again
    assert not sent.of(asked(QUESTION)).is_read_again


def test_a_long_system_prompt_is_read_again_if_the_tenant_has_sent_it_lately(
    sent: Prefixes, clock: ManualClock
) -> None:
    """Within the time for which providers keep it; what another tenant sends does not count."""
    assert not sent.of(asked(SYSTEM, QUESTION, tenant="b")).is_read_again
    assert not sent.of(asked(SYSTEM, QUESTION)).is_read_again
    clock.now += prefixes.KEPT_S
    assert sent.of(asked(SYSTEM, NEXT)).is_read_again
    clock.now += prefixes.KEPT_S + 1
    assert not sent.of(asked(SYSTEM, NEXT)).is_read_again


def test_a_short_system_prompt_is_not_kept_alone(sent: Prefixes) -> None:
    """However often it comes."""
    assert not any(sent.of(asked(SHORT, QUESTION)).is_read_again for _ in range(3))


def test_only_so_many_system_prompts_are_remembered(sent: Prefixes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones that were sent last."""
    monkeypatch.setattr(prefixes, "MOST", 2)
    prompts = [Message(role="system", parts=(f"{number} {LONG}",)) for number in range(3)]
    for one in prompts:
        sent.of(asked(one, QUESTION))
    assert [sent.of(asked(one, QUESTION)).is_read_again for one in (prompts[2], prompts[1], prompts[0])] == [
        True,
        True,
        False,
    ]


@given(st.lists(st.integers(0, 400), max_size=40), st.integers(0, 40), st.integers(-5, 500))
def test_what_holds_of_every_cut(sizes: list[int], first: int, step: int) -> None:
    """Nothing stays that does not fit, and not much more is cut than must be."""
    first = min(first, len(sizes))
    found = steady(sizes, first, step)
    assert first <= found <= len(sizes)
    assert sum(sizes[first:found]) <= max(0, 1.5 * step)
    if found > first:
        assert found < len(sizes)


def test_a_history_that_grows_begins_with_the_same_turn_for_several_turns() -> None:
    """Fifty turns in a budget for about ten: the provider's cache is thrown away every few turns, not every turn."""
    messages, begins, budget = [SHORT], [], 1000
    for number in range(60):
        messages.append(said("user", f"Question {number}: " + "word " * 40))
        trimmed = trim(Prompt(messages=tuple(messages)), (), budget, [Ruler(limit=100_000)])
        kept = trimmed.prompt.messages[1:]
        begins.append(kept[0].text)
        assert sum(tokens.count_message(one) for one in kept[:-1]) <= budget
        if trimmed.cut_tokens:
            assert sum(tokens.count_message(one) for one in kept[:-1]) >= 0.6 * budget
        messages.append(said("assistant", f"Answer {number}: " + "word " * 40))
    moves = sum(one != other for one, other in pairwise(begins))
    assert 10 <= moves <= 25, begins  # turn by turn it would be about fifty


def test_a_turn_that_is_longer_than_a_step_stays_if_it_fits() -> None:
    """To begin at a steady place is not worth that much."""
    sizes = [10, 10, 900, 10]
    assert steady(sizes, 2, 100) == 2
    assert steady(sizes, 1, 100) == 1
    assert steady([10] * 40, 3, 100) == 10
