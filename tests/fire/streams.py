"""One answer as each kind of provider streams it, and where in its bytes a fault can strike."""

import json
import random
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from tests.support import messages_wire, responses_wire
from tests.support.chat_server import chunk
from tests.support.responses_wire import Fields, pieces

APIS = ("openai", "responses", "anthropic")
INPUT, OUTPUT = 40, 20  # tokens that a provider reports
TEXT = "Wässer für die Mühle: größer als 水車 — am Bach, naß bis Öl ☂ und höher 🌊 als je für uns."
SOUND = "All is well at the other mill, and the wheel goes round."  # what a model says that has no fault


class Position(StrEnum):
    """Where a fault strikes."""

    HEAD = "before headers"
    FIRST = "before the first token"
    DELTA = "in a delta"
    CHARACTER = "inside a character"
    JSON = "inside JSON"
    LAST = "after the last token"
    USAGE = "before usage"
    LINE = "on the line"  # at any byte


PLACES = tuple(position for position in Position if position is not Position.LINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer as it is on the wire, before HTTP frames it."""

    events: list[bytes]
    texts: list[str]  # what each event brings
    first: int  # the number of the first event with text
    last: int  # of the last
    usage: int  # of the first event after that which has the usage

    @property
    def body(self) -> bytes:
        """The whole of it."""
        return b"".join(self.events)

    @property
    def terminal(self) -> bytes:
        """Its end: all events from the first that says that the answer has ended."""
        return b"".join(self.events[self.last + 1 :])

    def place(self, position: Position, chance: random.Random) -> tuple[int, str]:
        """Return an offset at which a fault strikes, and the text of the whole events before it."""
        number = {Position.HEAD: 0, Position.FIRST: self.first, Position.LAST: self.last + 1}.get(position, self.usage)
        within = 0
        if position in (Position.DELTA, Position.CHARACTER, Position.JSON):
            able = [at for at in range(self.first + 1, self.last + 1) if not self.texts[at].isascii()]
            number = chance.choice(able)
            event, text = self.events[number], self.texts[number].encode()
            at = event.index(text)
            wide = [at + i for i, byte in enumerate(text) if 0x80 <= byte < 0xC0]  # within a character
            narrow = [at + i for i in range(1, len(text)) if at + i not in wide]
            json_ = range(event.index(b"{") + 1, at)
            within = chance.choice({"in a delta": narrow, "inside a character": wide}.get(position, [*json_]))
        return [0, *accumulate(map(len, self.events))][number] + within, "".join(self.texts[:number])


def stream_of(api: str, text: str = TEXT) -> Stream:
    """Return an answer of this text."""
    match api:
        case "openai":
            usage = {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
            given = [chunk(role="assistant", content="")] + [chunk(content=piece) for piece in pieces(text)]
            given += [chunk("stop"), {"object": "chat.completion.chunk", "choices": [], "usage": usage}]
            events = [*(_sse(event) for event in given), b"data: [DONE]\n\n"]
            texts = [_text(event.get("choices")) for event in given] + [""]
            at_usage = len(events) - 2
        case "responses":
            counts = {"input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
            given = [*responses_wire.Answer(items=(responses_wire.message(text),), usage=counts).events()]
            events = [_sse(event, named=True) for event in given]
            texts = [str(event["delta"]) if event["type"] == "response.output_text.delta" else "" for event in given]
            at_usage = len(events) - 1
        case _:
            counts = {"input_tokens": INPUT, "output_tokens": OUTPUT}
            answer = messages_wire.Answer(content=(messages_wire.text(text),), usage=counts)
            given = [*answer.events({})]
            events = [_sse(event, named=True) for event in given]
            texts = [event.get("delta", {}).get("text", "") for event in given]
            at_usage = len(events) - 2
    said = [number for number, each in enumerate(texts) if each]
    return Stream(events=events, texts=texts, first=said[0], last=said[-1], usage=at_usage)


def error_of(api: str, status: int) -> tuple[Fields, bytes]:
    """Return how a provider refuses with a status: the body of an HTTP error, and the event in mid-stream."""
    word = {429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}[status]
    message = f"The provider says {status}."
    if api == "anthropic":
        error: Fields = {"type": "error", "error": {"type": word, "message": message}}
        return error, _sse(error, named=True)
    code = {429: "rate_limit_exceeded", 500: "server_error", 529: "overloaded_error"}[status]
    body = {"error": {"message": message, "type": code, "code": code, "param": None}}
    if api == "openai":
        return body, _sse(body)
    event = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 99}
    return body, _sse(event, named=True)


def _sse(event: Fields, *, named: bool = False) -> bytes:
    data = b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
    return b"event: " + event["type"].encode() + b"\n" + data if named else data


def _text(choices: Any) -> str:
    return "".join(str(choice["delta"].get("content") or "") for choice in choices or ())
