"""Models behind the Responses API, through a whole server, with the stock openai-python in front of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI

from millrace.upstreams.connections import Connections
from tests.support import responses_wire as wire
from tests.support.responses_server import ResponsesServer, Turn, always, responding
from tests.support.responses_wire import Answer, Fields
from tests.support.server import AT_ONCE_S, configuration_for, serving
from tests.support.waiting import PATIENCE_S, until, within
from tests.support.wire_client import TERMINALS, wire_client

PICTURE = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "name": "weather", "description": "d", "parameters": SCHEMA, "strict": True}
PATCH: Any = {
    "type": "custom",
    "name": "apply_patch",
    "description": "p",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
FILES: Any = {"type": "namespace", "name": "files", "description": "Files.", "tools": [PATCH]}
SEARCH: Any = {"type": "web_search", "external_web_access": True}
COST = (10 * 0.15 + 30 * 0.075 + 20 * 0.60) / 10**6  # of `wire.USAGE`


@dataclass
class Millrace:
    """A server whose two models follow scripts."""

    url: str
    small: ResponsesServer
    large: ResponsesServer
    client: AsyncOpenAI

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)


@pytest.fixture(params=["httptools", "aiohttp"], autouse=True)
def http_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever carries the requests."""
    defaults = Connections.__init__.__kwdefaults__
    assert defaults is not None
    made = Connections.__init__

    def pulling(self: Connections, **_: Any) -> None:
        made(self, pulls=request.param == "aiohttp")

    monkeypatch.setattr(Connections, "__init__", pulling)


@asynccontextmanager
async def behind(small: Turn, large: Turn | None = None, **tables: Any) -> AsyncIterator[Millrace]:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(responding(turn or small)) for turn in (small, large)]
        configuration = configuration_for(first.url, second.url)
        configuration |= {"cache": {"exact": False, "semantic": False}} | tables
        for model in configuration["models"].values():
            model["upstream"] = "responses"
        url = await stack.enter_async_context(serving(configuration))
        client = await stack.enter_async_context(AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0))
        yield Millrace(url, first, second, client)


def in_turn(*answers: tuple[Fields, ...]) -> Turn:
    """Return a turn that answers each request with the next of these items."""
    left = [*answers]
    return lambda _: Answer(items=left.pop(0) if len(left) > 1 else left[0])


async def responded(client: AsyncOpenAI, *, stream: bool, **request: Any) -> Any:
    if not stream:
        return await client.responses.create(**request)
    async with client.responses.stream(**request) as events:
        async for _ in events:
            pass
        return await events.get_final_response()


async def completed(client: AsyncOpenAI, *, stream: bool, **request: Any) -> Any:
    if not stream:
        return (await client.chat.completions.create(**request)).choices[0]
    async with client.chat.completions.stream(**request) as events:
        async for _ in events:
            pass
        return (await events.get_final_completion()).choices[0]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_text_and_what_it_costs(*, stream: bool) -> None:
    """As the provider counts it, with what came from its cache."""
    async with behind(always(wire.message("It is ", "Paris."))) as millrace:
        response = await responded(millrace.client, stream=stream, model="small", input="Capital of France?")
        choice = await completed(
            millrace.client, stream=stream, model="small", messages=[{"role": "user", "content": "And of Italy?"}]
        )
    assert (response.output_text, response.status) == ("It is Paris.", "completed")
    assert response.usage.model_extra["cost_usd"] == pytest.approx(COST)
    assert response.usage.input_tokens_details.cached_tokens == 30
    assert response.usage.output_tokens_details.reasoning_tokens == 5
    assert (choice.message.content, choice.finish_reason) == ("It is Paris.", "stop")
    assert millrace.small.refused == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_parallel_calls_go_round(*, stream: bool) -> None:
    """With a picture, and a form for the answer."""
    calls = tuple(wire.function_call("weather", json.dumps({"city": city})) for city in ("Paris", "Rome"))
    form: Any = {"format": {"type": "json_schema", "name": "town", "schema": SCHEMA, "strict": True}}
    question: Any = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Where?"}, {"type": "input_image", "image_url": PICTURE}],
        },
    ]
    async with behind(in_turn(calls, (wire.message('{"city": "Rome"}'),))) as millrace:
        request: Any = {"model": "large", "tools": [WEATHER], "text": form}
        asked = await responded(millrace.client, stream=stream, input=question, parallel_tool_calls=True, **request)
        made = [item for item in asked.output if item.type == "function_call"]
        assert [json.loads(call.arguments)["city"] for call in made] == ["Paris", "Rome"]
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": "21"} for call in made]
        sent = [item.model_dump(exclude_unset=True, exclude={"parsed_arguments"}) for item in asked.output]
        answer = await responded(millrace.client, stream=stream, input=[*question, *sent, *results], **request)
        assert answer.output_text == '{"city": "Rome"}'
    first, second = millrace.large.asked
    assert (first["tools"], first["parallel_tool_calls"]) == ([WEATHER], True)
    assert first["text"]["format"] == form["format"]
    assert first["input"][1]["content"][1] == {"type": "input_image", "image_url": PICTURE}
    assert [item["type"] for item in second["input"][2:]] == ["function_call"] * 2 + ["function_call_output"] * 2


async def test_calls_go_round_in_chat_completions() -> None:
    """Both dialects are read into one prompt."""
    call = wire.function_call("weather", '{"city": "Paris"}')
    tool: Any = {"type": "function", "function": {name: WEATHER[name] for name in ("name", "parameters", "strict")}}
    history: list[Any] = [{"role": "user", "content": "Weather?"}]
    async with behind(in_turn((wire.reasoning("Hm."), call), (wire.message("21."),))) as millrace:
        asked = await completed(millrace.client, stream=True, model="small", messages=history, tools=[tool])
        (made,) = asked.message.tool_calls
        assert (asked.finish_reason, made.function.arguments) == ("tool_calls", '{"city": "Paris"}')
        assert asked.message.model_extra["reasoning_content"] == "Hm."
        history += [asked.message, {"role": "tool", "tool_call_id": made.id, "content": "21"}]
        answer = await completed(millrace.client, stream=True, model="small", messages=history, tools=[tool])
    assert answer.message.content == "21."
    assert millrace.small.refused == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("way", ["sent again", "continued"])
async def test_encrypted_reasoning_comes_back_byte_for_byte(way: str, *, stream: bool) -> None:
    """In its order, whether the client keeps the conversation or Millrace does. The server knows what it has issued."""
    thoughts = wire.reasoning("First.", "Second."), wire.reasoning()
    search = wire.web_search("x")
    call = wire.custom_call("apply_patch", "*** Begin", namespace="files")
    turn = in_turn((thoughts[0], search, thoughts[1], call), (wire.message("Done."),))
    question: Any = {"role": "user", "content": "Patch it."}
    async with behind(turn) as millrace:
        request: Any = {"model": "small", "tools": [FILES, SEARCH], "reasoning": {"effort": "high", "summary": "auto"}}
        asked = await responded(millrace.client, stream=stream, input=[question], **request)
        (made,) = (item for item in asked.output if item.type == "custom_tool_call")
        assert (made.name, made.input, made.namespace) == ("apply_patch", "*** Begin", "files")
        assert [item.type for item in asked.output].count("web_search_call") == 1
        result = {"type": "custom_tool_call_output", "call_id": made.call_id, "output": "ok"}
        if way == "continued":
            await responded(millrace.client, stream=stream, input=[result], previous_response_id=asked.id, **request)
        else:
            sent = [item.model_dump(exclude_unset=True) for item in asked.output]
            await responded(millrace.client, stream=stream, input=[question, *sent, result], store=False, **request)
    assert millrace.small.refused == []
    first, second = millrace.small.asked
    assert (first["tools"], first["include"]) == ([FILES, SEARCH], ["reasoning.encrypted_content"])
    assert first["reasoning"] == {"effort": "high", "summary": "auto"}
    came = [item for item in second["input"] if item["type"] not in ("message", "custom_tool_call_output")]
    assert [item["type"] for item in came] == ["reasoning", "web_search_call", "reasoning", "custom_tool_call"]
    kept = [{name: value for name, value in item.items() if name != "id"} for item in (*thoughts, search)]
    assert [came[0], came[2], came[1]] == kept


async def test_what_cannot_be_verified_is_left_out_and_told() -> None:
    """As after another account's answer. The request is not refused."""
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA-of-another"}
    said = {"role": "assistant", "content": "Yes."}
    async with behind(always(wire.message("Hi"))) as millrace:
        response = await millrace.client.responses.create(
            model="small",
            input=[{"role": "user", "content": "?"}, foreign, said, {"role": "user", "content": "!"}],  # type: ignore[list-item]
        )
    assert response.output_text == "Hi"
    assert "encrypted_content" in (response.metadata or {})["millrace.notes"]


ENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "its cap": ({"status": "incomplete", "reason": "max_output_tokens"}, "max_output_tokens", "length"),
    "its filter": ({"status": "incomplete", "reason": "content_filter"}, "content_filter", "content_filter"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_an_incomplete_answer_is_told_in_every_dialect(end: str) -> None:
    fields, reason, finish = ENDS[end]
    async with behind(always(wire.message("Hel"), **fields)) as millrace:
        response = await millrace.client.responses.create(model="large", input="Hi")
        choice = await completed(
            millrace.client, stream=False, model="large", messages=[{"role": "user", "content": "?"}]
        )
    assert response.incomplete_details is not None
    assert (response.status, response.incomplete_details.reason) == ("incomplete", reason)
    assert (choice.message.content, choice.finish_reason) == ("Hel", finish)


async def test_a_refusal_is_one() -> None:
    async with behind(always(wire.message(refusal="I can't."))) as millrace:
        response = await millrace.client.responses.create(model="large", input="Hi")
        choice = await completed(
            millrace.client, stream=True, model="large", messages=[{"role": "user", "content": "?"}]
        )
    (item,) = response.output
    assert [part.to_dict() for part in item.content] == [{"type": "refusal", "refusal": "I can't."}]  # type: ignore[union-attr]
    assert choice.message.refusal == "I can't."


async def test_a_model_that_fails_gives_way() -> None:
    """Before its first word, and in the middle: what it had said is taken back."""
    error = {"code": "server_error", "message": "no"}
    for items in ((), (wire.message("I am not"),)):
        failing = always(*items, status="failed", error=error)
        async with behind(failing, always(wire.message("Large."))) as millrace:
            response = await responded(millrace.client, stream=True, model="auto", input="Hi")
        assert response.output_text == "Large."
        assert response.metadata["millrace.route"] == "large"


async def test_a_refused_request_is_told_in_the_providers_words() -> None:
    async with behind(always()) as millrace:
        with pytest.raises(APIStatusError, match="Unknown parameter: 'seeds'") as raised:
            await millrace.client.responses.create(model="small", input="Hi", extra_body={"seeds": 1})
    assert raised.value.status_code == 400


REASONS = (wire.reasoning("Let me think."), wire.message("Yes."))
CALLING = (wire.function_call("weather", '{"city": "Paris"}'), wire.message("."))


def at(items: tuple[Fields, ...], ending: str) -> int:
    """Return the number of the event after the first of a kind."""
    return 1 + next(n for n, event in enumerate(Answer(items=items).events()) if event["type"].endswith(ending))


MOMENTS: dict[str, tuple[tuple[Fields, ...], str]] = {
    "before the first token": (REASONS, "in_progress"),
    "in reasoning": (REASONS, "summary_text.delta"),
    "in a tool call": (CALLING, "arguments.delta"),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cancel_closes_the_socket_at_once_and_is_billed(moment: str) -> None:
    """As estimated, since the provider reports nothing of an answer that it has not ended."""
    items, ending = MOMENTS[moment]
    async with behind(always(*items)) as millrace:
        millrace.small.pause_before = at(items, ending)
        async with wire_client(millrace.ws_url) as client:
            await client.create("Hi", model="small", tools=[WEATHER])
            created = await client.next()
            await asyncio.wait_for(millrace.small.begun.wait(), PATIENCE_S)
            await asyncio.sleep(0.05)  # until Millrace has read it
            async with within(AT_ONCE_S):
                await client.send({"type": "response.cancel", "response_id": created["response"]["id"]})
                await until(lambda: millrace.small.left_at is not None)
            response = (await client.until(*TERMINALS))[-1]["response"]
    assert response["status"] == "cancelled"
    assert (response["usage"]["estimated"], response["usage"]["cost_usd"] > 0) == (True, True)
    assert (response["usage"]["output_tokens"] > 0) == (moment != "before the first token")
