"""How long a request is: found out once, and then it is known what is too long for the loop."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from millrace.dialects.chat import CompletionProjection
from millrace.dialects.event_log import Codec
from millrace.dialects.messages import MessagesProjection
from millrace.dialects.responses import EventCodec, ResponsesProjection
from millrace.funnel import checks, recall
from millrace.funnel.bill import NOTHING
from millrace.funnel.facts import Ended
from millrace.funnel.fingerprint import Keys, keys_of
from millrace.funnel.recall import Recall
from millrace.funnel.response_log import ResponseLog
from millrace.tokens import LONG
from millrace.types import (
    Api,
    CallPiece,
    Media,
    Message,
    Native,
    Prompt,
    Refusal,
    Request,
    Sealed,
    Source,
    Status,
    Thought,
    Tool,
)
from millrace.wire.chunks import ChatCodec
from millrace.wire.message_events import MessagesCodec
from tests.support.scripted_models import CATALOG, request


def said(text: str) -> Message:
    return Message(role="user", parts=(text,))


def test_a_schema_is_written_once_for_the_size_of_its_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked for; a prompt made of another has the same tools."""
    written: list[Any] = []

    def size(value: Any) -> int:
        written.append(value)
        return 0

    monkeypatch.setattr("millrace.types.conversation._json_size", size)
    prompt = Prompt(messages=(said("four"),), tools=(Tool(name="t", parameters={"a": 1}),))
    assert [prompt.size for _ in range(3)] == [5, 5, 5]
    assert written == [{"a": 1}]
    assert replace(prompt, messages=()).size == 1
    assert prompt == replace(prompt)


def test_what_only_one_api_understands_is_a_part_of_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written out for the model too, and that takes as long. Measured once."""
    block = Sealed(api=Api.MESSAGES, fields={"data": "x" * LONG})
    answer = Message(role="assistant", sealed=(block,))
    part = Message(role="user", parts=(Media(kind="block", fields={}, sealed=block),))
    native = Native(api=Api.MESSAGES, fields={"data": "x" * LONG})
    prompts = [Prompt(messages=(answer,)), Prompt(messages=(part,)), Prompt(messages=(said("x"),), native=native)]
    assert [prompt.whole_size > LONG for prompt in prompts] == [True] * 3
    monkeypatch.setattr("millrace.types.conversation._json_size", pytest.fail)
    assert [prompt.whole_size > LONG for prompt in prompts] == [True] * 3


@pytest.mark.parametrize(
    ("asked", "off"),
    [
        (request(said("x" * LONG)), False),
        (request(said("x" * LONG + "y")), True),
        (request(said("x"), tools=(Tool(name="t", parameters={"a": json.dumps(["x"] * LONG)}),)), True),
    ],
)
async def test_the_keys_of_a_long_request_are_made_off_the_loop(
    asked: Request, off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the same ones."""
    made_by: list[threading.Thread] = []

    def watched(*args: Any, **named: Any) -> Keys:
        made_by.append(threading.current_thread())
        return keys_of(*args, **named)

    monkeypatch.setattr(recall, "keys_of", watched)
    keys = await Recall(CATALOG, None, None).keys(asked)
    assert [thread is threading.current_thread() for thread in made_by] == [not off]
    assert keys == keys_of(asked, CATALOG.models, checks.selected(asked), has_scope=False)
    assert keys.exact == keys_of(asked, CATALOG.models, checks.selected(asked)).exact


class Reader:
    """A listener that adds up what it is told has come."""

    ready, congested = False, False

    def __init__(self) -> None:
        self.size = 0

    def fail(self) -> None: ...

    def show(self, deltas: list[str], number: int) -> bool:
        return False

    def notify(self, size: int) -> None:
        self.size += size


@pytest.mark.parametrize("words", ["", "word " * 1000])
@pytest.mark.parametrize("instructions", [None, "x" * 20_000])
@pytest.mark.parametrize("tools", [(), (Tool(name="t", parameters={"a": "y" * 30_000}),)])
def test_a_log_is_about_as_long_as_its_frames(words: str, instructions: str | None, tools: tuple[Tool, ...]) -> None:
    """Also those that repeat the whole answer, and what was asked."""
    response = ResponseLog(request(said("x"), instructions=instructions, tools=tools), lambda: 0.0)
    projection = ResponsesProjection(response, 0, negotiated=True)
    event_log = projection.event_log
    reader = Reader()
    event_log.join(reader)
    response.subscribe(projection)
    response.start()
    response.say(Thought(words))
    response.write([words])
    response.commit()
    response.say(CallPiece(index=0, id="call_1", name="t", arguments=words))
    response.end(
        Ended(status=Status.COMPLETED, model="m", source=Source.LARGE, statement=NOTHING),
    )
    frames = event_log.frames(0, EventCodec(projection), 10**9)
    assert sum(map(len, frames)) == pytest.approx(reader.size, rel=0.15, abs=4000)


def test_a_chat_completions_log_too() -> None:
    response = ResponseLog(request(said("x")), lambda: 0.0)
    projection = CompletionProjection(response, 0, include_usage=True)
    event_log = projection.event_log
    reader = Reader()
    event_log.join(reader)
    response.subscribe(projection)
    response.commit()
    for aside in (Thought("x" * 10_000), Refusal("y" * 10_000), CallPiece(index=0, arguments="z" * 10_000)):
        response.say(aside)
    frames = event_log.frames(0, ChatCodec(), 10**9)
    assert sum(map(len, frames)) == pytest.approx(reader.size, rel=0.1)


@pytest.mark.parametrize("api", Api)
def test_logs_with_blocks_of_one_api_too(api: Api) -> None:
    """In the dialect of that API; chat completions carry those of another."""
    block = Sealed(
        api=Api.RESPONSES if api is Api.CHAT else api,
        fields={"type": "web_search_call", "id": "ws_1", "found": "x" * 50_000},
    )
    response = ResponseLog(request(said("x")), lambda: 0.0)
    projection: Any
    codec: Codec
    match api:
        case Api.RESPONSES:
            projection = ResponsesProjection(response, 0, negotiated=True)
            codec = EventCodec(projection)
        case Api.MESSAGES:
            projection, codec = MessagesProjection(response, 0, model="m"), MessagesCodec("r")
        case Api.CHAT:
            projection, codec = CompletionProjection(response, 0, include_usage=True), ChatCodec()
    reader = Reader()
    projection.event_log.join(reader)
    response.subscribe(projection)
    response.start()
    response.commit()
    response.say(block)
    response.end(Ended(status=Status.COMPLETED, model="m", source=Source.LARGE, statement=NOTHING))
    frames = projection.event_log.frames(0, codec, 10**9)
    assert sum(map(len, frames)) == pytest.approx(reader.size, rel=0.15)
