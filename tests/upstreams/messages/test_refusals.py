"""What the Messages API refuses: told in the words of every other API, or mended once and remembered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.types import Api, Call, Message, Native, Prompt, Sealed, Tool, ToolCall
from millrace.upstreams import attempt as attempts
from millrace.upstreams.attempt import HttpUpstream
from millrace.upstreams.connections import Connections
from millrace.upstreams.endpoint import UpstreamEndpoint
from millrace.upstreams.messages.api import MESSAGES
from millrace.upstreams.messages.refused import change_for
from millrace.upstreams.quirks import Change, Quirks
from tests.support import messages_wire as wire
from tests.support.messages_server import MessagesServer, RefusedError, always, in_turn, messaging
from tests.support.messages_wire import Answer, Fields
from tests.support.provider import PATIENCE
from tests.upstreams.messages.test_body import ASKED, BIG

KEY = "sk-ant-api03-0123456789abcdefghij"
HELLO = Answer(content=(wire.text("Hello."),))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "RETRY_S", 0.001)


@asynccontextmanager
async def upstream_of(server: MessagesServer, key: str | None = KEY) -> AsyncIterator[HttpUpstream]:
    async with Connections() as connections:
        endpoint = UpstreamEndpoint(base_url=server.url, api_key=key, **PATIENCE)
        yield HttpUpstream(MESSAGES, connections, endpoint, lambda: 0.0, wall=lambda: 0.0)


def call_of(*asked: Message, **prompt: Any) -> Call:
    return Call(model=BIG, prompt=Prompt(messages=asked or (ASKED,), **prompt), room=190_000)


STATUSES: list[tuple[RefusedError, tuple[int, str], bool]] = [
    (RefusedError("no", 400), (400, "invalid_request_error"), False),
    (RefusedError(f"key {KEY}", 401, "authentication_error"), (502, "upstream_error"), False),
    (RefusedError("no", 402, "billing_error"), (502, "upstream_error"), False),
    (RefusedError("no", 403, "permission_error"), (502, "upstream_error"), False),
    (RefusedError("model: claude-0", 404, "not_found_error"), (502, "upstream_error"), False),
    (RefusedError("too long", 413, "request_too_large"), (413, "request_too_large"), False),
    (RefusedError("slow", 429, "rate_limit_error", retry_after="7"), (429, "rate_limit_error"), True),
    (RefusedError("oh", 500, "api_error"), (502, "upstream_error"), True),
    (RefusedError("late", 504, "timeout_error"), (504, "upstream_timeout"), True),
    (RefusedError("Overloaded", 529, "overloaded_error"), (529, "upstream_overloaded"), True),
]


@pytest.mark.parametrize(("refused", "seen", "retry"), STATUSES, ids=[refused.kind for refused, _, _ in STATUSES])
async def test_an_error_by_its_status(refused: RefusedError, seen: tuple[int, str], *, retry: bool) -> None:
    """Nothing of it is billed, and no key is repeated."""
    async with messaging(in_turn(refused)) as server, upstream_of(server) as upstream:
        with pytest.raises(UpstreamError) as raised:
            await upstream.open(call_of()).done
    error = raised.value
    assert ((error.rule.status, error.code), error.rule.retry, error.billable) == (seen, retry, False)
    assert error.retry_after_ms == (7000 if refused.status == 429 else None)
    assert KEY not in error.message
    assert (refused.words in error.message) is (refused.status not in (401, 403))


async def test_the_key_the_version_and_the_betas_are_headers() -> None:
    native = Native(api=Api.MESSAGES, headers={"anthropic-beta": "a-2025,b-2026"})
    async with messaging(always(wire.text("Hi")), key=KEY) as server, upstream_of(server) as upstream:
        await upstream.open(call_of(native=native)).done
        with pytest.raises(UpstreamError, match="refused the key"):
            async with upstream_of(server, "sk-ant-other") as other:
                await other.open(call_of()).done
    (head,) = server.heads
    assert (head["x-api-key"], head["anthropic-beta"], head["anthropic-version"]) == (
        KEY,
        "a-2025,b-2026",
        "2023-06-01",
    )
    assert "Authorization" not in head
    assert not {"anthropic-beta", "anthropic_beta", "betas"} & server.asked[0].keys()


def refuses(what: str, when: Any) -> Any:
    """Return a turn that refuses a body of which `when` is true, in these words."""

    def turn(body: Fields) -> Answer:
        if when(body):
            raise RefusedError(what)
        return HELLO

    return turn


SYSTEM = Message(role="system", parts=("Now be brief.",))
LEARNED: dict[str, tuple[Any, Call, str, Any]] = {  # the server, what is asked, the note, and what is asked then
    "adaptive thinking": (
        refuses(
            "adaptive thinking is not supported on this model", lambda body: body["thinking"]["type"] == "adaptive"
        ),
        call_of(reasoning_effort="low"),
        "with thinking.budget_tokens",
        lambda body: body["thinking"] == {"type": "enabled", "budget_tokens": 2048},
    ),
    "effort": (
        refuses("This model does not support the effort parameter.", lambda body: "output_config" in body),
        call_of(reasoning_effort="low"),
        "without effort",
        lambda body: body["thinking"]["type"] == "adaptive",
    ),
    "system between turns": (
        refuses("role 'system' is not supported on this model", lambda body: body["messages"][-1]["role"] == "system"),
        call_of(ASKED, SYSTEM),
        "with system as user",
        lambda body: body["messages"][-1]["content"][-1]["text"] == "<system>\nNow be brief.\n</system>",
    ),
    "temperature": (
        refuses("`temperature` is deprecated for this model.", lambda body: "temperature" in body),
        call_of(temperature=0.5),
        "without temperature",
        lambda body: "temperature" not in body,
    ),
    "both ways of sampling": (
        refuses(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
            lambda body: {"temperature", "top_p"} <= body.keys(),
        ),
        call_of(temperature=0.5, top_p=0.5),
        "without temperature",
        lambda body: body["top_p"] == 0.5,
    ),
    "strict tools": (
        refuses("tools.0.custom.input_schema: schema is too complex", lambda body: body["tools"][0].get("strict")),
        call_of(tools=(Tool(name="f", strict=True),)),
        "without strict",
        lambda body: "strict" not in body["tools"][0],
    ),
    "marks": (
        refuses("tools.0.cache_control: Extra inputs are not permitted", lambda body: "cache_control" in str(body)),
        call_of(tools=(Tool(name="f"),)),
        "without cache_control",
        lambda body: "cache_control" not in str(body),
    ),
}


@pytest.mark.parametrize("name", LEARNED)
async def test_what_a_model_refuses_is_asked_otherwise_and_remembered(name: str) -> None:
    """Once, and told."""
    turn, call, note, is_mended = LEARNED[name]
    async with messaging(turn) as server, upstream_of(server) as upstream:
        for _ in range(2):
            attempt = upstream.open(call)
            await attempt.done
            assert note in attempt.notes
            assert attempt.parts == ["Hello."]
    assert len(server.refused) == 1
    assert [*map(is_mended, server.asked)] == [True, True]


async def test_an_older_model_refuses_twice_and_thinks() -> None:
    """The form of thinking, and then the effort."""

    def turn(body: Fields) -> Answer:
        if body["thinking"]["type"] == "adaptive":
            raise RefusedError("adaptive thinking is not supported on this model")
        if "output_config" in body:
            raise RefusedError("This model does not support the effort parameter.")
        return HELLO

    async with messaging(turn) as server, upstream_of(server) as upstream:
        await upstream.open(call_of(reasoning_effort="high")).done
    assert (len(server.refused), server.asked[0]["thinking"]["budget_tokens"]) == (2, 16_384)


async def test_the_most_that_a_model_gives_is_learned() -> None:
    """What nobody has capped is asked for with that cap from then on."""
    async with messaging(always(wire.text("Hi")), most_output=8192) as server, upstream_of(server) as upstream:
        for call in (call_of(), call_of(), call_of(max_output_tokens=50_000)):
            await upstream.open(call).done
    assert [body["max_tokens"] for body in server.asked] == [8192] * 3
    assert len(server.refused) == 1


async def test_what_the_prompt_leaves_of_the_window_is_asked_for_once() -> None:
    """The API counts in tokens of its own. It is not remembered: the next prompt leaves more."""
    words = "input length and `max_tokens` exceed context limit: 188240 + 64000 > 200000, decrease input length"
    async with (
        messaging(refuses(words, lambda body: body["max_tokens"] > 11_760)) as server,
        upstream_of(server) as upstream,
    ):
        attempt = upstream.open(call_of())
        await attempt.done
        assert "with max_tokens 11760" in attempt.notes
        assert upstream.learned.quirks(0.0)[0] == Quirks()
    assert server.asked[0]["max_tokens"] == 11_760


@pytest.mark.parametrize(
    "words",
    [
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
        "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
        "stop_sequences: each stop sequence must contain non-whitespace",
        "tools.0.custom.name: String should match pattern",
    ],
)
def test_tools_formats_and_histories_are_never_changed(words: str) -> None:
    """What is refused of them is passed on."""
    sent = {"messages": [], "tools": [], "stop_sequences": ["x"], "output_config": {"format": {}}, "max_tokens": 1}
    assert change_for(words, sent) is None


async def test_what_a_client_of_this_api_says_is_refused_in_the_words_of_the_api() -> None:
    """Its thinking is not put into other words."""
    words = '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"'
    native = Native(api=Api.MESSAGES, fields={"thinking": {"type": "enabled", "budget_tokens": 2000}})
    async with (
        messaging(refuses(words, lambda body: body["thinking"]["type"] == "enabled")) as server,
        upstream_of(server) as upstream,
    ):
        with pytest.raises(UpstreamError, match=r"thinking\.type\.enabled"):
            await upstream.open(call_of(native=native)).done
    assert len(server.refused) == 1


def test_a_change_is_told_and_applied() -> None:
    assert Change("with at most 8192 tokens").applied(Quirks()) == replace(Quirks(), output_limit=8192)
    assert Change("with max_tokens 11").applied(Quirks()) == replace(Quirks(), output_limit=11)
    assert Change("with at most 8192 tokens").is_of_the_provider
    assert not Change("with max_tokens 11").is_of_the_provider


async def test_a_thought_of_another_model_is_left_out_once_it_is_refused() -> None:
    """The API checks it by its signature. It is not remembered: other histories have thoughts of this model."""
    changed = Sealed(api=Api.MESSAGES, fields=wire.thinking("Hm.") | {"thinking": "Hm!"})
    call = ToolCall(id="toolu_1", name="f", arguments="{}")
    asked = (
        ASKED,
        Message(role="assistant", calls=(call,), reasoning="Hm!", sealed=(changed,)),
        Message(role="tool", parts=("21",), call_id="toolu_1"),
    )
    async with messaging(always(wire.text("Hi"))) as server, upstream_of(server) as upstream:
        attempt = upstream.open(call_of(*asked))
        await attempt.done
        assert "without signed thinking" in attempt.notes
        assert upstream.learned.quirks(0.0)[0] == Quirks()
    assert server.refused == ["messages.1.content.0: Invalid `signature` in `thinking` block"]
    assert [block["type"] for block in server.asked[0]["messages"][1]["content"]] == ["tool_use"]
