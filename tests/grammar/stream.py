"""Truth -> the bytes that a provider sends: readable in any mixture of quirks, or broken in one way."""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.grammar import pieces
from tests.grammar.truth import Truth
from tests.grammar.usages import ZEROS, report, usage

BROKEN = ("cut", "no end", "an error", "broken off", "malformed", "half an event")  # each costs the answer
SHARE_BROKEN = 0.4
WORDS = {
    "stop": "stop STOP Stop eos end_turn stop_sequence FinishReason.STOP COMPLETE xyzzy",
    "length": "length LENGTH max_tokens MAX_TOKENS model_length",
    "content_filter": "content_filter SAFETY content-filter RECITATION",
    "tool_calls": "tool_calls TOOL_CALLS tool_use function_call stop STOP",
}
LABELS = ("text/event-stream", "text/event-stream; charset=utf-8", "application/json", "text/plain", "")
ERRORS: tuple[dict[str, Any], ...] = (
    {"error": {"message": "broken", "type": "server_error"}},
    {"object": "error", "message": "broken", "code": 500},
    {"error": "broken"},
    {"choices": [], "error": {"message": "broken", "code": 502}},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A response. `broken` says in which way it is no answer; None: it is one."""

    response: bytes
    resets: bool  # the connection is closed after it, without the end of the body
    is_counted: bool  # the provider reports usage
    broken: str | None


def stream(random: Random, truth: Truth, broken: str | None) -> Stream:
    """Return the bytes of an answer."""
    is_counted = random.random() < 0.85
    if broken is None and random.random() < 0.2:
        return _document(random, truth, is_counted=is_counted)
    events = _events(random, truth, is_counted=is_counted, has_end=broken not in ("cut", "no end", "broken off"))
    has_done = broken is None and random.random() < 0.8
    match broken:
        case "an error":
            events.insert(random.randint(0, len(events)), json.dumps(random.choice(ERRORS)).encode())
        case "broken off":
            events += [_chunk({}, random.choice(["error", "abort", "network_error"])), b"[DONE]"]
        case "malformed":
            events.insert(
                random.randint(0, len(events)), random.choice([b"{", b'{"choices":[{"del', b"nothing", b"[]"])
            )
    if has_done or not _has_finish(events):
        events += [random.choice([b"[DONE]", b"[DONE] "])] if broken is None else []
    body = _sse(random, events)
    if broken == "cut":
        body = body[: random.randint(len(body) // 2, len(body) - 1)]
    if broken == "half an event":
        body += b'data: {"choices":[{"index":0,"delta":{"content":"and'
    return _response(random, body, broken=broken, is_counted=is_counted)


def _events(random: Random, truth: Truth, *, is_counted: bool, has_end: bool) -> list[bytes]:
    every_chunk = random.random() < 0.15 and has_end
    word = random.choice(WORDS[truth.finish].split())
    said: list[bytes] = []
    if random.random() < 0.6:
        said.append(_chunk({"role": "assistant", "content": random.choice(["", None]), "tool_calls": None}))
    said += [_chunk(delta) for delta in pieces.thoughts(random, truth.reasoning) if truth.reasoning]
    for content in pieces.contents(random, truth.text) if truth.text else ():
        said.append(_raw_chunk(content, word if every_chunk else None))
    said += [_chunk(delta) for delta in pieces.calls(random, truth.calls)] if truth.calls else []
    for _ in range(random.randint(0, 3)):
        said.insert(random.randint(0, len(said)), random.choice(_NOISE))
    if is_counted and random.random() < 0.3:
        said.insert(random.randint(0, len(said)), json.dumps(report(random, ZEROS)).encode())
    if has_end and not (every_chunk and truth.text and not truth.calls):
        needs_word = truth.finish in ("length", "content_filter") or random.random() < 0.9
        said += [_chunk({}, word)] if needs_word else []
    if is_counted:
        said.append(json.dumps(report(random, usage(random, truth))).encode())
        if random.random() < 0.15:
            said.append(json.dumps(report(random, ZEROS)).encode())
    return said


_NOISE = (
    b'{"choices":[{"index":0,"delta":{}}]}',
    b'{"choices":[{"index":0,"delta":{"content":""}}],"usage":null}',
    b'{"choices":[{"index":1,"delta":{"content":"another"},"finish_reason":"length"}]}',
    b'{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}',
    b'{"id":7,"created":"now","choices":[{"index":0,"delta":{"content":null,"refusal":false}}],"note":"\x01"}',
)


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}, ensure_ascii=False).encode()


def _raw_chunk(content: bytes, finish: str | None) -> bytes:
    end = json.dumps(finish).encode()
    return b'{"choices":[{"index":0,"delta":{"content":' + content + b'},"finish_reason":' + end + b"}]}"


def _has_finish(events: list[bytes]) -> bool:
    said = b"".join(event for event in events if event not in _NOISE)
    return b'"finish_reason": "' in said or b'"finish_reason":"' in said


def _sse(random: Random, events: list[bytes]) -> bytes:
    line_end = random.choice([b"\n", b"\n", b"\r\n", b"\r"])
    begin = random.choice([b"data: ", b"data:"])
    body = random.choice([b"", b"", b"\xef\xbb\xbf", b": hello" + line_end * 2])
    for event in events:
        if random.random() < 0.1:
            body += random.choice([b": ping", b"id: 7", b"event: message", b"retry: 10"]) + line_end
        body += begin + event + line_end * 2
    return body


def _document(random: Random, truth: Truth, *, is_counted: bool) -> Stream:
    """Return the answer as one document, although a stream was asked for."""
    message: dict[str, Any] = {"role": "assistant", "content": truth.text or None}
    if truth.text and random.random() < 0.3:
        message["content"] = [{"type": "text", "text": truth.text}]
    if truth.reasoning:
        message[random.choice(pieces.THOUGHT_NAMES)] = truth.reasoning
    if truth.calls:
        message["tool_calls"] = [
            {"id": f"call_{at}", "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
            for at, made in enumerate(truth.calls)
        ]
    word = random.choice(WORDS[truth.finish].split())
    document: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": word}]}
    if is_counted:
        document["usage"] = usage(random, truth)
    body = random.choice([b"", b"\n \n"]) + json.dumps(document, indent=random.choice([None, 2])).encode()
    return _response(random, body, broken=None, is_counted=is_counted)


def _response(random: Random, body: bytes, *, broken: str | None, is_counted: bool) -> Stream:
    framing = random.choice(["chunked", "length", "close"])
    if broken == "cut" or (broken is None and framing == "close" and random.random() < 0.5):
        framing = "chunked" if broken == "cut" else framing
    label = random.choice(LABELS)
    head = [f"HTTP/1.1 {random.choice([200, 200, 200, 201])} OK", *([f"Content-Type: {label}"] if label else [])]
    resets = broken == "cut"
    match framing:
        case "chunked":
            head.append("Transfer-Encoding: chunked")
            at = sorted(random.randint(0, len(body)) for _ in range(3))
            cuts = [body[a:b] for a, b in zip([0, *at], [*at, len(body)], strict=True) if a < b]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cuts) + (b"" if resets else b"0\r\n\r\n")
        case "length":
            head.append(f"Content-Length: {len(body)}")
        case "close":
            head.append("Connection: close")
            resets = True
    return Stream(
        response="\r\n".join([*head, "", ""]).encode() + body, resets=resets, is_counted=is_counted, broken=broken
    )
