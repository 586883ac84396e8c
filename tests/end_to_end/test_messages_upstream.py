"""Clients of OpenAI's APIs with models of the Messages API behind Millrace: what they ask, get and pay."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI

from millrace.stores.database import FILE
from tests.support import messages_wire as wire
from tests.support.messages_server import MessagesServer, RefusedError, Turn, always, in_turn, messaging
from tests.support.messages_wire import Answer, Fields
from tests.support.server import AT_ONCE_S, configuration_for, serving
from tests.support.waiting import until, within
from tests.support.wire_client import TERMINALS, check_response, wire_client

PRICE = {"input": "10", "cached_input": "1", "cache_write": "12.5", "output": "20"}
SCHEMA: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "name": "get_weather", "parameters": SCHEMA}
CHAT_WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
LONG = "Plain words of a long system prompt, which is the same for every request. " * 90


@dataclass
class Behind:
    """A server in front of a scripted one, which is both its models, and a client of it."""

    url: str
    model: MessagesServer
    client: AsyncOpenAI
    data_dir: Path


@asynccontextmanager
async def behind(turn: Turn, data_dir: Path, **tables: Any) -> AsyncIterator[Behind]:
    async with messaging(turn) as model:
        configuration = configuration_for(model.url, model.url, data_dir=str(data_dir))
        for one in configuration["models"].values():
            one |= {"upstream": "anthropic", "price": PRICE, "context_window": 200_000}
        configuration |= {"cache": {"exact": False, "semantic": False}} | tables
        async with (
            serving(configuration) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        ):
            yield Behind(url, model, client, data_dir)


def cost(usage: Fields) -> Decimal:
    """Return what the scripted server's own counts cost, in dollars."""
    per_million = (
        usage["input_tokens"] * Decimal(PRICE["input"])
        + usage["cache_read_input_tokens"] * Decimal(PRICE["cached_input"])
        + usage["cache_creation_input_tokens"] * Decimal(PRICE["cache_write"])
        + usage["output_tokens"] * Decimal(PRICE["output"])
    )
    return Decimal(per_million) / 1_000_000


def thoughts_of(body: Fields) -> list[Fields]:
    blocks = [block for turn in body["messages"] for block in turn["content"]]
    return [block for block in blocks if block["type"] in ("thinking", "redacted_thinking")]


def rows(data_dir: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(data_dir / FILE)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM entries ORDER BY opened_at")]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_text(tmp_path: Path, *, stream: bool) -> None:
    """Over both APIs, whole and streamed."""
    async with behind(always(wire.text("The river is deep.")), tmp_path) as setting:
        chat: Any = await setting.client.chat.completions.create(
            model="large", messages=[{"role": "user", "content": "How deep?"}], stream=stream
        )
        said = (
            "".join([chunk.choices[0].delta.content or "" async for chunk in chat])
            if stream
            else chat.choices[0].message.content
        )
        response: Any = await setting.client.responses.create(model="large", input="How deep?", stream=stream)
        if stream:
            deltas = [event.delta async for event in response if event.type == "response.output_text.delta"]
        else:
            deltas = [response.output_text]
    assert said == "".join(deltas) == "The river is deep."


async def test_parallel_calls_and_their_results(tmp_path: Path) -> None:
    """Two turns over each API."""
    calls = [wire.tool_use("get_weather", {"city": city}) for city in ("Paris", "Zürich")]
    first = Answer(content=(wire.text("I look."), *calls), stop_reason="tool_use")
    last = Answer(content=(wire.text("Wet."),))
    async with behind(in_turn(first, last, first, last), tmp_path) as setting:
        one = await setting.client.responses.create(model="large", input="Weather?", tools=[WEATHER])
        made = [item for item in one.output if item.type == "function_call"]
        results: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "wet"} for call in made]
        two = await setting.client.responses.create(
            model="large", input=results, previous_response_id=one.id, tools=[WEATHER]
        )
        asked: list[Any] = [{"role": "user", "content": "Weather?"}]
        answer = await setting.client.chat.completions.create(model="large", messages=asked, tools=[CHAT_WEATHER])
        said = answer.choices[0].message
        assert said.tool_calls is not None
        asked += [said, *({"role": "tool", "tool_call_id": call.id, "content": "wet"} for call in said.tool_calls)]
        after = await setting.client.chat.completions.create(model="large", messages=asked, tools=[CHAT_WEATHER])
    assert [json.loads(call.arguments)["city"] for call in made] == ["Paris", "Zürich"]
    assert (two.output_text, after.choices[0].message.content) == ("Wet.", "Wet.")
    assert answer.choices[0].finish_reason == "tool_calls"
    assert setting.model.refused == []
    for body in (setting.model.asked[1], setting.model.asked[3]):
        assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]
        assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == [call["id"] for call in calls]


async def test_a_picture_and_a_schema(tmp_path: Path) -> None:
    """The schema is checked here too."""
    form: Any = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
    picture: Any = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    content: Any = [{"type": "input_text", "text": "Where?"}, picture]
    async with behind(always(wire.text('{"city": "Paris"}')), tmp_path) as setting:
        response = await setting.client.responses.create(
            model="large", input=[{"role": "user", "content": content}], text=form
        )
    (body,) = setting.model.asked
    assert body["messages"][0]["content"][1]["source"]["type"] == "base64"
    assert body["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
    assert response.output_text == '{"city": "Paris"}'
    assert response.metadata is not None
    assert response.metadata["millrace.check"] == "passed"


THOUGHTS = (wire.thinking("Hm ö: it is wet."), wire.redacted(), wire.thinking(""))
TWICE = Answer(content=(*THOUGHTS, wire.tool_use("get_weather", {"city": "Paris"}, "toolu_1")), stop_reason="tool_use")


@pytest.mark.parametrize("how", ["previous_response_id", "the client's own history", "chat completions"])
async def test_thinking_goes_back_to_the_byte(tmp_path: Path, how: str) -> None:
    """Signed, redacted and not shown, at its place; the server checks the signatures. Both turns begin alike."""
    turn = in_turn(TWICE, Answer(content=(wire.text("Wet."),)))
    async with behind(turn, tmp_path) as setting:
        if how == "chat completions":
            asked: list[Any] = [{"role": "system", "content": LONG}, {"role": "user", "content": "Weather?"}]
            more: Any = {"tools": [CHAT_WEATHER], "reasoning_effort": "high"}
            answer = await setting.client.chat.completions.create(model="large", messages=asked, **more)
            message = answer.choices[0].message
            asked += [message.model_dump(exclude_none=True)]
            asked += [{"role": "tool", "tool_call_id": "toolu_1", "content": "wet"}]
            await setting.client.chat.completions.create(model="large", messages=asked, **more)
        else:
            fields: Any = {"tools": [WEATHER], "reasoning": {"effort": "high"}, "instructions": LONG}
            result: Any = {"type": "function_call_output", "call_id": "toolu_1", "output": "wet"}
            question: Any = {"role": "user", "content": "Weather?"}
            one = await setting.client.responses.create(model="large", input=[question], **fields)
            if how == "previous_response_id":
                fields["previous_response_id"] = one.id
                items = [result]
            else:
                items = [question, *(item.model_dump(exclude_none=True) for item in one.output), result]
            await setting.client.responses.create(model="large", input=items, **fields)
    assert setting.model.refused == []
    first, second = setting.model.asked
    assert thoughts_of(second) == [*THOUGHTS]
    plain = [json.dumps(body).replace(', "cache_control": {"type": "ephemeral"}', "") for body in (first, second)]
    assert plain[1].startswith(plain[0].partition(']}], "stream"')[0])


async def test_the_cache_is_used_without_a_word_of_the_client_and_the_bill_is_exact(tmp_path: Path) -> None:
    """Reads and writes are reported, priced and shown: on the wire, in the ledger, and as the server counts them."""
    turn = in_turn(TWICE, Answer(content=(wire.text("Wet."),)))
    async with behind(turn, tmp_path) as setting:
        fields: Any = {"tools": [WEATHER], "instructions": LONG}
        one = await setting.client.responses.create(model="large", input="Weather?", **fields)
        result: Any = [{"type": "function_call_output", "call_id": "toolu_1", "output": "wet"}]
        two = await setting.client.responses.create(model="large", input=result, previous_response_id=one.id, **fields)
    for response, answer, row in zip((one, two), setting.model.answered, rows(tmp_path), strict=True):
        usage: Any = response.usage
        counts = answer.usage
        written, read = counts["cache_creation_input_tokens"], counts["cache_read_input_tokens"]
        assert usage.input_tokens == counts["input_tokens"] + written + read
        assert usage.input_tokens_details.cached_tokens == row["cached_input_tokens"] == read
        assert usage.input_tokens_details.cache_write_tokens == row["cache_write_tokens"] == written
        assert usage.output_tokens == counts["output_tokens"]
        assert Decimal(str(usage.cost_usd)) == cost(counts) == Decimal(row["cost_nanodollars"]) / 10**9
        assert not usage.estimated
    first, second = (answer.usage for answer in setting.model.answered)
    assert first["cache_read_input_tokens"] == 0 < first["cache_creation_input_tokens"]
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert second["cache_creation_input_tokens"] > 0


ENDS: list[tuple[str, str, str | None, str]] = [
    ("max_tokens", "incomplete", "max_output_tokens", "length"),
    ("model_context_window_exceeded", "incomplete", "max_output_tokens", "length"),
    ("refusal", "incomplete", "content_filter", "content_filter"),
    ("stop_sequence", "completed", None, "stop"),
    ("pause_turn", "completed", None, "stop"),
]


@pytest.mark.parametrize(("reason", "status", "why", "finish"), ENDS)
async def test_why_it_stopped(tmp_path: Path, reason: str, status: str, why: str | None, finish: str) -> None:
    async with behind(always(wire.text("The river"), stop_reason=reason), tmp_path) as setting:
        response = await setting.client.responses.create(model="large", input="How deep?")
        chat = await setting.client.chat.completions.create(
            model="large", messages=[{"role": "user", "content": "How deep?"}]
        )
    assert response.status == status
    assert (response.incomplete_details.reason if response.incomplete_details else None) == why
    assert chat.choices[0].finish_reason == finish


@pytest.mark.parametrize(
    ("refused", "status", "code"),
    [
        (RefusedError("prompt is too long", 400), 400, "invalid_request_error"),
        (RefusedError("invalid x-api-key", 401, "authentication_error"), 502, "upstream_error"),
        (RefusedError("Number of requests", 429, "rate_limit_error", retry_after="3"), 429, "rate_limit_error"),
        (RefusedError("Overloaded", 529, "overloaded_error"), 529, "upstream_overloaded"),
    ],
)
async def test_an_error_before_the_answer(tmp_path: Path, refused: RefusedError, status: int, code: str) -> None:
    """By its status, unbilled."""
    async with behind(in_turn(refused), tmp_path) as setting:
        with pytest.raises(APIStatusError) as raised:
            await setting.client.responses.create(model="large", input="How deep?")
    error: Any = raised.value.body
    assert (raised.value.status_code, error["code"]) == (status, code)
    assert raised.value.response.headers.get("retry-after") == ("3" if status == 429 else None)
    assert rows(tmp_path)[0]["cost_nanodollars"] == 0


async def test_an_error_in_mid_stream_is_billed_with_the_input_that_was_reported(tmp_path: Path) -> None:
    """The output is counted here. `auto` lets the other model answer."""
    overloaded = {"type": "overloaded_error", "message": "Overloaded"}
    broken = Answer(content=(wire.text("The river is deep and wide."),), error=overloaded)
    whole = Answer(content=(wire.text("It is deep."),))
    async with behind(in_turn(broken, broken, whole), tmp_path) as setting:
        with pytest.raises(APIStatusError) as raised:
            await setting.client.responses.create(model="small", input="How deep?", instructions=LONG, tools=[WEATHER])
        escalated: Any = await setting.client.responses.create(model="auto", input="How deep?", instructions=LONG)
    failed = raised.value.response.json()
    usage, reported = failed["usage"], setting.model.answered[0].usage
    assert (raised.value.status_code, failed["error"]["code"]) == (529, "upstream_overloaded")
    assert usage["input_tokens_details"]["cache_write_tokens"] == reported["cache_creation_input_tokens"] > 0
    assert (usage["estimated"], usage["output_tokens"]) == (True, 7)
    assert escalated.output_text == "It is deep."
    assert [attempt["outcome"] for attempt in escalated.usage.attempts] == ["failed", "answered"]


MOMENTS = {  # the number of the event that never comes; what has been shown by then
    "before the first token": 1,
    "in thinking": 4,
    "in a tool call": 11,
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cancel_closes_the_socket_and_is_billed(tmp_path: Path, moment: str) -> None:
    """Within 250 ms; the input as it was reported, with what the cache had, the output as it was counted."""
    words = wire.thinking("Hm, let me see whether it is wet there.")
    call = wire.tool_use("get_weather", {"city": "a long name of a town"})
    async with behind(always(words, call, stop_reason="tool_use"), tmp_path) as setting:
        setting.model.pause_before = MOMENTS[moment]
        async with wire_client(setting.url.replace("http", "ws", 1)) as client:
            await client.create("Weather?", model="large", instructions=LONG, tools=[WEATHER])
            created = await client.next()
            await setting.model.begun.wait()
            await asyncio.sleep(0.05)  # what was written is read
            async with within(AT_ONCE_S):
                await client.send({"type": "response.cancel", "response_id": created["response"]["id"]})
                await until(lambda: setting.model.left_at is not None)
            response = check_response([created, *await client.until(*TERMINALS)])
    usage, reported = response["usage"], setting.model.answered[0].usage
    assert (response["status"], usage["estimated"]) == ("cancelled", True)
    written = reported["cache_creation_input_tokens"]
    assert usage["input_tokens"] == written + reported["input_tokens"]
    assert usage["input_tokens_details"]["cache_write_tokens"] == written > 0
    assert (usage["output_tokens"] > 0) == (moment != "before the first token")
    (row,) = rows(tmp_path)
    assert (row["status"], row["cost_nanodollars"]) == ("cancelled", round(usage["cost_usd"] * 10**9))


async def test_what_has_no_place_is_told(tmp_path: Path) -> None:
    """In the metadata of the response."""
    async with behind(always(wire.text("Deep.")), tmp_path) as setting:
        chat: Any = await setting.client.chat.completions.create(
            model="large", messages=[{"role": "user", "content": "How deep?"}], seed=7, stop=["END"], user="u"
        )
    (body,) = setting.model.asked
    assert (body["stop_sequences"], body["metadata"]) == (["END"], {"user_id": "u"})
    assert chat.metadata["millrace.notes"] == "large-model without seed"
