"""What binds a request to one model: blocks of its history that no other can read, and a tool that it must use."""

import dataclasses
import time
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.funnel.catalog import Catalog
from millrace.funnel.routing.choice import choose
from millrace.funnel.routing.pins import check_able
from millrace.funnel.routing.router import Router
from millrace.types import Api, Message, Sealed, Strategy, Tool
from millrace.types.tool_choice import ToolChoice
from tests.support.scripted_models import LARGE, POLICY, SMALL, request

ASKED = Message(role="user", parts=("How deep is it?",))
SIGNED = Sealed(api=Api.MESSAGES, fields={"type": "thinking", "signature": "s"})
ENCRYPTED = Sealed(api=Api.RESPONSES, fields={"type": "reasoning", "encrypted_content": "e"})
FROM_SMALL = dataclasses.replace(SIGNED, maker="small-model")
FROM_LARGE = dataclasses.replace(SIGNED, maker="large-model")
FROM_ANOTHER = dataclasses.replace(SIGNED, maker="not-configured")


def catalog(small: Api, large: Api) -> Catalog:
    return Catalog(replace(SMALL, api=small), replace(LARGE, api=large), {}, Strategy.AUTO)


def after(*sealed: Sealed) -> tuple[Message, ...]:
    return (ASKED, *(Message(role="assistant", parts=("a",), sealed=(one,)) for one in sealed), ASKED)


BOUND: list[tuple[Catalog, tuple[Sealed, ...], Strategy]] = [
    (catalog(Api.CHAT, Api.MESSAGES), (SIGNED,), Strategy.LARGE),
    (catalog(Api.MESSAGES, Api.CHAT), (SIGNED,), Strategy.SMALL),
    (catalog(Api.CHAT, Api.CHAT), (SIGNED,), Strategy.CASCADE),  # nobody can read it
    (catalog(Api.MESSAGES, Api.MESSAGES), (SIGNED,), Strategy.CASCADE),  # both can, as far as is known
    (catalog(Api.MESSAGES, Api.MESSAGES), (FROM_SMALL,), Strategy.SMALL),
    (catalog(Api.MESSAGES, Api.MESSAGES), (FROM_LARGE,), Strategy.LARGE),
    (catalog(Api.MESSAGES, Api.MESSAGES), (FROM_ANOTHER,), Strategy.CASCADE),
    (catalog(Api.MESSAGES, Api.RESPONSES), (FROM_ANOTHER,), Strategy.SMALL),
    (catalog(Api.MESSAGES, Api.RESPONSES), (SIGNED, ENCRYPTED), Strategy.LARGE),  # the latest
    (catalog(Api.MESSAGES, Api.RESPONSES), (), Strategy.CASCADE),
]


@pytest.mark.parametrize("asked", [Strategy.AUTO, Strategy.CASCADE, Strategy.RACE, Strategy.HEDGE])
@pytest.mark.parametrize(("models", "sealed", "strategy"), BOUND)
def test_a_history_that_only_one_model_can_read_goes_to_that_one(
    models: Catalog, sealed: tuple[Sealed, ...], strategy: Strategy, asked: Strategy
) -> None:
    """Whatever the strategy; that model alone is asked, so nothing falls back to another."""
    choice = choose(request(*after(*sealed), strategy=asked), models, POLICY, Router(time.time))
    if strategy is Strategy.CASCADE:
        assert choice.strategy is (Strategy.CASCADE if asked is Strategy.AUTO else asked)
        return
    assert choice.strategy is strategy
    assert choice.first is (models.small if strategy is Strategy.SMALL else models.large)
    assert choice.reason == f"{choice.first.id}: the history has thoughts that it alone can read"


def test_a_client_that_names_a_model_gets_that_one() -> None:
    """What that one cannot read is left out, and told."""
    models = catalog(Api.CHAT, Api.MESSAGES)
    choice = choose(request(*after(SIGNED), strategy=Strategy.SMALL), models, POLICY, Router(time.time))
    assert (choice.strategy, choice.reason) == (Strategy.SMALL, "asked for")


def test_what_the_small_model_cannot_take_goes_to_the_large_one() -> None:
    models = catalog(Api.MESSAGES, Api.CHAT)
    long = replace(request(*after(SIGNED), strategy=Strategy.AUTO), input_tokens=200_000)
    assert choose(long, models, POLICY, Router(time.time)).strategy is Strategy.LARGE


SEARCH = Tool(name="web_search", hosted=Sealed(api=Api.RESPONSES, fields={"type": "web_search"}))
MUST_SEARCH: dict[str, Any] = {"tools": (SEARCH,), "tool_choice": ToolChoice("hosted", "web_search")}


def test_a_tool_that_must_be_used_goes_to_the_model_that_has_it() -> None:
    models = catalog(Api.CHAT, Api.RESPONSES)
    asked = request(strategy=Strategy.AUTO, **MUST_SEARCH)
    check_able(asked, models)
    choice = choose(asked, models, POLICY, Router(time.time))
    assert (choice.strategy, choice.reason) == (
        Strategy.LARGE,
        "large-model: it alone has the tool that must be used",
    )
    offered = request(strategy=Strategy.AUTO, tools=(SEARCH,))  # it may be used, so others can do without
    assert choose(offered, models, POLICY, Router(time.time)).strategy is Strategy.CASCADE


@pytest.mark.parametrize(
    ("models", "strategy"),
    [
        (catalog(Api.CHAT, Api.MESSAGES), Strategy.AUTO),
        (catalog(Api.CHAT, Api.RESPONSES), Strategy.SMALL),
    ],
)
def test_a_tool_that_no_model_has_and_must_be_used_is_refused(models: Catalog, strategy: Strategy) -> None:
    with pytest.raises(MillraceError) as caught:
        check_able(request(strategy=strategy, **MUST_SEARCH), models)
    assert (caught.value.code, caught.value.param) == ("invalid_request", "tool_choice")
    assert "cannot be made to use web_search" in caught.value.message


def test_a_conversation_that_nobody_can_compact_is_refused_at_its_input() -> None:
    trigger = Sealed(api=Api.RESPONSES, fields={"type": "compaction_trigger"})
    asked = request(ASKED, Message(role="assistant", sealed=(trigger,)))
    check_able(asked, catalog(Api.CHAT, Api.RESPONSES))
    with pytest.raises(MillraceError, match="summary in words") as raised:
        check_able(asked, catalog(Api.CHAT, Api.MESSAGES))
    assert raised.value.param == "input"
