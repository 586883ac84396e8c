"""Sessions of agents: turn after turn on a growing history, with calls of a tool and their results, in each dialect."""

import json
from random import Random
from typing import Any

import aiohttp

from millrace_client import Client
from tests.support.any_client import DIALECTS, HEADERS, SCHEMA, Got, Question

TURNS = (3, 8)  # from, to
ASKS = "[tool=weather]"
TOOL = {"type": "function", "name": "weather", "parameters": SCHEMA}
RESULT = "Sunny, 21 degrees, a light wind from the west."


class BrokenError(Exception):
    """What came is not as it must be."""


async def over_http(http: aiohttp.ClientSession, dialect: str, topic: str, chance: Random, key: str = "") -> int:
    """Run a session that sends its whole history each time; return how many requests it made."""
    speaks = DIALECTS[dialect]
    body = speaks.body(Question(text=f"{topic} {ASKS}", has_tool=True)) | {"model": "auto", "stream": True}
    field = "input" if dialect == "responses" else "messages"
    headers = HEADERS | ({"Authorization": f"Bearer {key}"} if key else {})
    turns = chance.randint(*TURNS)
    for turn in range(turns):
        async with http.post(speaks.path, data=json.dumps(body), headers=headers) as answer:
            text = await answer.text()
        if answer.status != 200:
            raise BrokenError(f"{dialect}: {answer.status} {text[:300]}")
        got = speaks.got(json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {"))
        if got.end not in ("stop", "tool_calls"):
            raise BrokenError(f"{dialect}: a turn ends with {got.end!r}")
        body[field] += _tail(dialect, got, f"And what about day {turn}? {ASKS if chance.random() < 0.7 else ''}")
    return turns


def _tail(dialect: str, got: Got, asked: str) -> list[Any]:
    """Return what the client adds to its history after an answer."""
    results = (RESULT,) * len(got.call_ids)
    speaks: Any = DIALECTS[dialect]
    body = speaks.body(Question(before=got, results=results))
    added: list[Any] = (body.get("input") or body.get("messages"))[1:]
    return added if results else [*added[:-1], {"role": "user", "content": asked}]


async def over_socket(client: Client, topic: str, chance: Random) -> int:
    """Run a session that continues from answer to answer; return how many requests it made."""
    said: Any = f"{topic} {ASKS}"
    before = None
    turns = chance.randint(*TURNS)
    for turn in range(turns):
        reply = await client.ask(said, previous_response_id=before, tools=[TOOL])
        before = reply.id
        calls = reply.tool_calls
        said = [{"type": "function_call_output", "call_id": call.call_id, "output": RESULT} for call in calls]
        said = said or f"And what about day {turn}? {ASKS if chance.random() < 0.7 else ''}"
    return turns
