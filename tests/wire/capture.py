"""Capture the golden conversations from a server that runs: `python tests/wire/capture.py ws://127.0.0.1:8000`.

Each file holds every frame as the server sent it, and what a client must make of them. Run it again when the wire
changes, against a fresh `python server demo`, and read the difference.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

HERE = Path(__file__).parent
IDS = {"stream_id": "golden", "event_id": "ev_1"}
ENDS = ("response.completed", "response.failed", "response.incomplete", "error")
STOP_AFTER = 8  # deltas

TOGETHER = {"joined"}  # asked while the one before is still being answered
SOON_S = 0.3  # a request is under way by then

# name: the body, whether it is negotiated, how often it is asked (the last time is kept)
CONVERSATIONS: dict[str, tuple[dict[str, Any], bool, int]] = {
    "completed": ({"input": "What is 2 + 2?"}, False, 1),
    "revised": ({"input": "Why is the sky dark at night?"}, True, 1),
    "cached": ({"input": "What is 17 times 23?"}, True, 2),
    "joined": ({"input": "Why do rivers bend? [ttft=1] [tokens=12]"}, True, 2),
    "raced": (
        {"input": "What is a tailrace? [ttft.large=1.5]", "millrace": {"strategy": "race", "cache": "off"}},
        True,
        1,
    ),
    "cancelled": ({"input": "Tell me a long story. [tokens=400] [rate=40]"}, True, 1),
    "failed": ({"input": "Hello [fault=hangup@5]", "millrace": {"strategy": "small"}}, True, 1),
    "refused": ({"input": "Hello", "millrace": {"strategy": "fastest"}}, True, 1),
}


async def converse(url: str, body: dict[str, Any], *, negotiated: bool, stop: bool) -> list[dict[str, Any]]:
    """Ask once, and return every frame up to the last of the request."""
    events: list[dict[str, Any]] = []
    protocols = [Subprotocol("millrace.v1")] if negotiated else None
    async with connect(f"{url}/v1/responses", subprotocols=protocols, compression=None) as socket:
        await socket.send(json.dumps({"type": "response.create", **IDS, **body}))
        async for frame in socket:
            events.append(json.loads(frame))
            if events[-1]["type"] in ENDS:
                break
            if stop and sum(event["type"] == "response.output_text.delta" for event in events) == STOP_AFTER:
                await socket.send(json.dumps({"type": "response.cancel", "stream_id": IDS["stream_id"]}))
    return events


def golden(name: str, events: list[dict[str, Any]], *, negotiated: bool) -> dict[str, Any]:
    """Return the file: the frames, and the text and the status in which they end."""
    end = events[-1].get("response", {"output": [], "status": "refused"})
    text = "".join(part["text"] for item in end["output"] for part in item["content"])
    return {"name": name, "negotiated": negotiated, "text": text, "status": end["status"], "events": events}


def lines(conversation: dict[str, Any]) -> str:
    """Write one event a line, so that a difference shows what has changed."""
    events = ",\n".join("  " + json.dumps(event, ensure_ascii=False) for event in conversation.pop("events"))
    head = json.dumps(conversation, ensure_ascii=False, indent=1).removesuffix("\n}")
    return f'{head},\n "events": [\n{events}\n ]\n}}\n'


async def main(url: str) -> None:
    """Capture all."""
    for name, (body, negotiated, times) in CONVERSATIONS.items():
        asked: list[asyncio.Task[list[dict[str, Any]]]] = []
        for _ in range(times):
            asking = converse(url, body, negotiated=negotiated, stop=name == "cancelled")
            asked.append(asyncio.create_task(asking))
            await (asyncio.sleep(SOON_S) if name in TOGETHER else asked[-1])
        *_, events = await asyncio.gather(*asked)
        written = lines(golden(name, events, negotiated=negotiated))
        (HERE / f"{name}.json").write_text(written, encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].rstrip("/")))
