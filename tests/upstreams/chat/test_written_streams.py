"""Five hundred written streams: whole they are read right; cut before their end, they are never whole.

The end is the chunk with the finish reason: not all servers send `[DONE]`.
"""

import json
from random import Random
from typing import Any

import pytest

from millrace.errors import UpstreamError
from millrace.types import FinishReason, Tool, calls_of, reasoning_of
from millrace.upstreams.asides import Placed
from millrace.upstreams.bodies import DONE, BodyReader
from millrace.upstreams.chat.answer import ChatReader
from millrace.upstreams.refusals import Refusals
from tests.support.responses_wire import pieces
from tests.upstreams.chat.test_answer import chunk, sse

STREAMS, CUTS = 500, 12
TOOLS = (Tool(name="look"), Tool(name="patch", is_custom=True))
WORDS = ("mill", " race", "\n", "Köln", "😀", '"', "\\", "{", "data: ", "[DONE]", " ", "x" * 30)
ENDS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


def read(body: bytes, size: int) -> tuple[str, str, list[tuple[str, str]], FinishReason]:
    """Return the text, the reasoning, the calls and the end of a body that comes in pieces of so many bytes."""
    answer = ChatReader("m", TOOLS, Refusals("m", None, lambda: 0.0), 10**6)
    reader, deltas, placed = BodyReader("m"), list[str](), list[Placed]()
    events = [event for at in range(0, len(body), size) for event in reader.feed(body[at : at + size])]
    for event in [*events, *reader.end()]:
        if event and not answer.is_terminated:
            answer.take(event, deltas, placed)
    finish = answer.end(deltas, placed)
    asides = [aside for _, aside in placed]
    calls = [(call.name, call.arguments) for call in calls_of(asides)]
    return "".join(deltas), reasoning_of(asides), calls, finish.reason


def written(random: Random) -> str:
    return "".join(random.choices(WORDS, k=random.randint(1, 12)))


def call(index: int, name: str, arguments: str) -> list[dict[str, Any]]:
    """Return the chunks of a call."""
    first = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
    more = [{"index": index, "function": {"arguments": piece}} for piece in pieces(arguments)]
    return [chunk(tool_calls=[piece]) for piece in (first, *more)]


@pytest.mark.untraced
def test_streams_of_all_kinds() -> None:
    for number in range(STREAMS):
        random = Random(number)
        thought, text = (written(random) if random.random() < 0.6 else "" for _ in range(2))
        arguments = [json.dumps({"input": written(random)}) for _ in range(random.randint(0 if text else 1, 2))]
        named = [random.choice(TOOLS) for _ in arguments]
        end = random.choice([*ENDS])
        said = [chunk(reasoning_content=piece) for piece in pieces(thought)] + [chunk(piece) for piece in pieces(text)]
        for index, (tool, given) in enumerate(zip(named, arguments, strict=True)):
            said += call(index, tool.name, given)
        last = chunk(finish="tool_calls" if arguments and end == "stop" else end)
        before, usage = sse(*said), {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
        raw = before + sse(
            last, *([usage] if random.random() < 0.5 else []), *([DONE] if random.random() < 0.8 else [])
        )
        calls = [
            (tool.name, json.loads(given)["input"] if tool.is_custom else given)
            for tool, given in zip(named, arguments, strict=True)
        ]
        reason = FinishReason.TOOL_CALLS if arguments and end == "stop" else ENDS[end]
        assert read(raw, random.choice([3, 50, 10**6])) == (text, thought, calls, reason), f"stream {number}"
        whole = len(before) + sse(last).rindex(b"}")  # what has come of it before is not all of the last event
        for at in {random.randrange(whole) for _ in range(CUTS)} | {len(before) + at for at in (0, 5, 6)} | {whole}:
            with pytest.raises(UpstreamError):
                read(raw[:at], 10**6)
