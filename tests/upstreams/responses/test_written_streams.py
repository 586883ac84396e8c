"""Five hundred streams as servers may write them: whole they are read right, cut at any byte they are never whole."""

import copy
import json
import os
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from millrace.errors import UpstreamError
from millrace.types import Aside, FinishReason, Sealed, Tool, calls_of, reasoning_of, refusal_of
from millrace.upstreams.asides import Placed
from millrace.upstreams.bodies import BodyReader
from millrace.upstreams.refusals import Refusals
from millrace.upstreams.responses.answer import ResponsesReader
from tests.support import responses_wire as wire
from tests.support.responses_wire import Answer, Fields, sse
from tests.upstreams.responses.test_answer import SERVERS

STREAMS, BATCHES = 500, 10
CUTS = int(os.environ.get("MILLRACE_STREAM_CUTS", "12"))  # of each stream, besides its ends
TOOLS = (Tool(name="weather"), Tool(name="patch", namespace="files", is_custom=True))
WORDS = ("mill", " race", "\n", "Köln", "😀", '"', "\\", "{", "data: ", "[DONE]", " ", "x" * 30)
ENDS: dict[str, tuple[FinishReason, Fields]] = {
    "completed": (FinishReason.STOP, {}),
    "capped": (FinishReason.LENGTH, {"status": "incomplete", "reason": "max_output_tokens"}),
    "filtered": (FinishReason.CONTENT_FILTER, {"status": "incomplete", "reason": "content_filter"}),
}
LINES = ("\n", "\r\n", "\r")


class Read:
    """What a body says, if it is a whole answer."""

    def __init__(self, stream: bytes, cuts: Iterator[int]) -> None:
        self.deltas: list[str] = []
        self.placed: list[Placed] = []
        self.finish: FinishReason | None = None
        reader, body = ResponsesReader("m", TOOLS, Refusals("m", None, lambda: 0.0), 10**6), BodyReader("m")
        try:
            at = 0
            while at < len(stream) and not reader.is_terminated:
                size = next(cuts)
                self._take(reader, body.feed(stream[at : at + size]))
                at += size
            self._take(reader, [] if reader.is_terminated else body.end())
            self.finish = reader.end(self.deltas, self.placed).reason
        except UpstreamError:
            pass

    def _take(self, reader: ResponsesReader, events: list[bytes]) -> None:
        for data in events:
            if data and not reader.is_terminated:
                reader.take(data, self.deltas, self.placed)

    @property
    def asides(self) -> list[Aside]:
        return [aside for _, aside in self.placed]


def written(random: Random) -> str:
    return "".join(random.choices(WORDS, k=random.randint(1, 12)))


def items(random: Random) -> Iterator[Fields]:
    """Yield reasoning and searches, then a message or a refusal, then calls."""
    for _ in range(random.randint(0, 2)):
        yield wire.reasoning(*(written(random) for _ in range(random.randint(0, 2))))
        if random.random() < 0.3:
            yield wire.web_search(written(random))
    if random.random() < 0.8:
        yield wire.message(*(written(random) for _ in range(random.randint(1, 2))))
    elif random.random() < 0.5:
        yield wire.message(refusal=written(random))
    for _ in range(random.randint(0, 2)):
        arguments = json.dumps({"city": written(random)}, ensure_ascii=random.random() < 0.5)
        is_custom = random.random() < 0.4
        yield (
            wire.custom_call("patch", written(random), namespace="files")
            if is_custom
            else wire.function_call("weather", arguments)
        )


def stream_of(random: Random, answer: Answer) -> bytes:
    """Return the answer as some server would stream it, or as one document."""
    if random.random() < 0.1:
        return json.dumps(answer.whole()).encode()
    server = random.choice(["", *SERVERS])
    events = copy.deepcopy([*answer.events()])
    events = SERVERS[server](events) if server else events
    comments = [b": ping\n\n" if random.random() < 0.1 else b"" for _ in events]
    raw = b"".join(comment + sse(event) for comment, event in zip(comments, events, strict=True))
    if random.random() < 0.3:
        raw = b"\n".join(line for line in raw.split(b"\n") if not line.startswith(b"event:"))
    return raw.replace(b"\n", random.choice(LINES).encode())


def any_size(random: Random) -> Iterator[int]:
    most = random.choice((3, 50, 10**6))
    while True:
        yield random.randint(1, most)


@pytest.mark.untraced
@pytest.mark.parametrize("batch", range(BATCHES))
def test_streams_of_all_kinds(batch: int) -> None:
    """The terminal is the right one; nothing is lost, nothing is said twice; no cut makes a whole answer."""
    for number in range(batch, STREAMS, BATCHES):
        random = Random(number)
        said = [*items(random)]
        end = random.choice([*ENDS])
        reason, fields = ENDS[end]
        answer = Answer(items=tuple(said), **fields)
        stream = stream_of(random, answer)
        check(Read(stream, any_size(random)), said, reason, number)
        last = stream.rstrip().rfind(b"}")  # without it no event, and no document, is whole
        cuts = {random.randrange(last + 1) for _ in range(CUTS)} | {last, 0}
        whole = [at for at in cuts if Read(stream[:at], any_size(random)).finish is not None]
        assert whole == [], f"stream {number} is whole when it is cut at {whole}"


def check(read: Read, said: list[Fields], reason: FinishReason, number: int) -> None:
    """Compare what was read with what was said."""
    messages = [part for item in said if item["type"] == "message" for part in item["content"]]
    calls = [item for item in said if item["type"] in ("function_call", "custom_tool_call")]
    summaries = [part["text"] for item in said for part in item.get("summary", ())]
    sealed = [item["type"] for item in said if item["type"] in ("reasoning", "web_search_call")]
    expected: Any = (
        FinishReason.TOOL_CALLS if calls and reason is FinishReason.STOP else reason,
        "".join(part.get("text", "") for part in messages),
        "".join(part.get("refusal", "") for part in messages),
        "\n\n".join(summaries),
        [(call["name"], call.get("arguments", call.get("input"))) for call in calls],
        sealed,
    )
    got = (
        read.finish,
        "".join(read.deltas),
        refusal_of(read.asides),
        reasoning_of(read.asides),
        [(call.name, call.arguments) for call in calls_of(read.asides)],
        [one.fields["type"] for one in read.asides if isinstance(one, Sealed)],
    )
    assert got == expected, f"stream {number}"
