"""Capture the golden conversations: `python -m tests.support.captured.capture`, for all or those that are named.

Each file holds every frame as a server sent it, and what a client must make of them. The server is a fresh
`python server demo`. Run this again when the wire changes, and read the difference.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

Event = dict[str, Any]

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
IDS = {"stream_id": "golden", "event_id": "ev_1"}
ENDS = ("response.completed", "response.failed", "response.incomplete", "error")
INTERRUPT_AFTER = 8  # deltas
SOON_S = 0.3  # a request is under way by then

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
NOTES = {"type": "namespace", "name": "notes", "description": "Notes", "tools": [{"type": "custom", "name": "note"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What is asked, and what happens meanwhile. Asked several times, the last one is kept."""

    body: dict[str, Any]
    negotiated: bool = True
    times: int = 1
    together: bool = False  # asked while the one before is still being answered
    frames: tuple[Event, ...] = ()  # sent when some words have come
    is_cut: bool = False  # the connection is lost then, and all of the answer read from another
    drains: bool = False  # the server is told to stop then


STORY = "Tell me a long story. [tokens=400] [rate=40]"
CONVERSATIONS = {
    "completed": Conversation(body={"input": "What is 2 + 2?"}, negotiated=False),
    "revised": Conversation(body={"input": "Why is the sky dark at night?"}),
    "cached": Conversation(body={"input": "What is 17 times 23?"}, times=2),
    "joined": Conversation(body={"input": "Why do rivers bend? [ttft=1] [tokens=12]"}, times=2, together=True),
    "raced": Conversation(
        body={"input": "What is a tailrace? [ttft.large=1.5]", "millrace": {"strategy": "race", "cache": "off"}}
    ),
    "called": Conversation(body={"input": "What is the weather in Paris? [tool=get_weather]", "tools": [WEATHER]}),
    "customised": Conversation(body={"input": "Write it down. [tool=note]", "tools": [NOTES]}),
    "reasoned": Conversation(body={"input": "Why do mills grind? [reason=8] [tokens=12]"}),
    "summarised": Conversation(
        body={"input": "Why do wheels turn? [reason=8] [tokens=12]", "reasoning": {"summary": "auto"}}
    ),
    "declined": Conversation(body={"input": "Say something rude. [refuse]", "millrace": {"strategy": "large"}}),
    "cancelled": Conversation(
        body={"input": STORY}, frames=({"type": "response.cancel", "stream_id": IDS["stream_id"]},)
    ),
    "interrupted": Conversation(
        body={"input": "Tell me a short story. [tokens=50] [rate=40]"},
        frames=({"type": "millrace.ping", "t": 1}, {"type": "response.steer", "input": "Shorter!", **IDS}),
    ),
    "resumed": Conversation(
        body={"input": "Tell me of a mill. [tokens=24] [rate=20]", "millrace": {"on_disconnect": "detach"}},
        is_cut=True,
    ),
    "failed": Conversation(body={"input": "Hello [fault=hangup@5]", "millrace": {"strategy": "small"}}),
    "warned": Conversation(  # of the demo's budget for this tag, the first one takes 83 %
        body={
            "input": "Tell me of a pond. [tokens=80]",
            "millrace": {"strategy": "large", "cache": "off", "tag": "tight"},
        },
        times=2,
    ),
    "refused": Conversation(body={"input": "Hello", "millrace": {"strategy": "fastest"}}),
    "drained": Conversation(body={"input": "Tell me of a dam. [tokens=60] [rate=40]"}, drains=True),  # the last
}


async def converse(url: str, conversation: Conversation, server: asyncio.subprocess.Process) -> list[Event]:
    """Ask once, and return every frame up to the last of the request."""
    events: list[Event] = []
    async with connected(url, negotiated=conversation.negotiated) as socket:
        await socket.send(json.dumps({"type": "response.create", **IDS, **conversation.body}))
        async for frame in socket:
            events.append(json.loads(frame))
            if events[-1]["type"] in ENDS:
                break
            if sum(event["type"] == "response.output_text.delta" for event in events) != INTERRUPT_AFTER:
                continue
            if conversation.is_cut:
                break
            if events[-1]["type"] == "response.output_text.delta":
                for sent in conversation.frames:
                    await socket.send(json.dumps(sent))
                if conversation.drains:
                    server.terminate()
    return await resumed(url, events) if conversation.is_cut else events


async def resumed(url: str, before: list[Event]) -> list[Event]:
    """Return every frame of a new connection that asks for the whole of a response again."""
    hello, created = before[0], next(event for event in before if event["type"] == "response.created")
    asked = {"response_id": created["response"]["id"], "after": -1, "epoch": hello["epoch"]}
    events: list[Event] = []
    async with connected(url, negotiated=True) as socket:
        await socket.send(json.dumps({"type": "millrace.resume", "stream_id": IDS["stream_id"], **asked}))
        async for frame in socket:
            events.append(json.loads(frame))
            if events[-1]["type"] in ENDS:
                break
    return events


def connected(url: str, *, negotiated: bool) -> connect:
    """Return a connection, to be entered."""
    protocols = [Subprotocol("millrace.v1")] if negotiated else None
    return connect(f"{url}/v1/responses", subprotocols=protocols, compression=None)


def golden(name: str, conversation: Conversation, events: list[Event]) -> Event:
    """Return the file: the frames, and the text and the status in which they end."""
    end = events[-1].get("response", {"output": [], "status": "refused"})
    parts = [part for item in end["output"] if item["type"] == "message" for part in item["content"]]
    text = "".join(part["text"] for part in parts if part["type"] == "output_text")
    return {
        "name": name,
        "negotiated": conversation.negotiated,
        "text": text,
        "status": end["status"],
        "events": events,
    }


def lines(conversation: Event) -> str:
    """Write one event a line, so that a difference shows what has changed."""
    events = ",\n".join("  " + json.dumps(event, ensure_ascii=False) for event in conversation.pop("events"))
    head = json.dumps(conversation, ensure_ascii=False, indent=1).removesuffix("\n}")
    return f'{head},\n "events": [\n{events}\n ]\n}}\n'


@asynccontextmanager
async def demo() -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Run a demo; yield its URL, and its process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "server", "demo", "--port", "0"), cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        said = ""
        while not (address := re.search(r"http(://127\.0\.0\.1:\d+)", said)):
            line = await process.stdout.readline()
            assert line, f"the demo ended: {said}"
            said += line.decode()
        yield f"ws{address[1]}", process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def main(names: list[str]) -> None:
    """Capture these, or all."""
    async with demo() as (url, server):
        for name, conversation in CONVERSATIONS.items():
            if names and name not in names:
                continue
            asked: list[asyncio.Task[list[Event]]] = []
            for _ in range(conversation.times):
                asked.append(asyncio.create_task(converse(url, conversation, server)))
                await (asyncio.sleep(SOON_S) if conversation.together else asked[-1])
            *_, events = await asyncio.gather(*asked)
            (HERE / f"{name}.json").write_text(lines(golden(name, conversation, events)), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
