"""A server of the Messages API that follows a script. It refuses what the real one refuses, in its words.

It counts the tokens of what it is asked and says by a measure of its own, a fourth of the characters, and reports
which of them a mark has put into its cache, and which of them it has found there.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.support.messages_wire import Answer, Fields, signature_of
from tests.support.scripted_http import ScriptedServer, serving

Turn = Callable[[Fields], Answer]  # the body of a request -> what is answered

KNOWN = {"model", "messages", "max_tokens", "system", "tools", "tool_choice", "temperature", "top_p", "top_k", "stream"}
KNOWN |= {"stop_sequences", "metadata", "thinking", "output_config", "service_tier", "cache_control", "container"}
KNOWN |= {"context_management", "mcp_servers", "inference_geo", "speed"}
ROLES = ("user", "assistant", "system")
MOST_MARKS, LOOKED_BACK = 4, 20  # marks of a request; blocks in front of a mark where an earlier one is looked for
LEAST_CACHED = 16  # tokens; a shorter prefix is not cached
CHARACTERS = 4  # of a token


class RefusedError(Exception):
    """Why a request is refused."""

    def __init__(self, words: str, status: int = 400, kind: str = "invalid_request_error", **headers: str) -> None:
        super().__init__(words)
        self.words, self.status, self.kind = words, status, kind
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def error(self) -> Fields:
        """What the body of the refusal, or an event in mid-stream, says."""
        return {"type": self.kind, "message": self.words}


class MessagesServer(ScriptedServer):
    """One server. It remembers what it was asked, and what it has refused."""

    def __init__(self, turn: Turn, *, key: str = "", most_output: int = 64_000) -> None:
        super().__init__()
        self.turn = turn
        self.answered: list[Answer] = []  # and the answers, with their usage
        self._key = key
        self._most_output = most_output
        self._cached: set[bytes] = set()  # digests of prefixes

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        body = await self.body_of(request)
        try:
            self._check_key(request)
            check(body, self._most_output)
            answer = self.turn(body)
        except RefusedError as refused:
            self.refused.append(refused.words)
            document = {"type": "error", "error": refused.error, "request_id": "req_1"}
            return web.json_response(document, status=refused.status, headers=refused.headers)
        answer = replace(answer, usage=self._charged(body, answer) | answer.counts)
        self.asked.append(body)
        self.heads.append(request.headers)
        self.answered.append(answer)
        if not body.get("stream"):
            return web.json_response(answer.whole(body))
        return await self.stream(request, answer.stream(body))

    async def count(self, request: web.Request) -> web.StreamResponse:
        """Count the tokens of a request."""
        body = await request.json()
        return web.json_response({"input_tokens": sum(tokens_of(block) for block, _ in blocks_of(body))})

    def _check_key(self, request: web.Request) -> None:
        if request.headers.get("anthropic-version") is None:
            raise RefusedError("anthropic-version: header is required")
        if self._key and request.headers.get("x-api-key") != self._key:
            raise RefusedError("invalid x-api-key", 401, "authentication_error")

    def _charged(self, body: Fields, answer: Answer) -> Fields:
        """Return the usage: what was read up to the longest prefix that is cached, what was written beyond it."""
        before, digest, total = [(b"", 0)], hashlib.sha256(), 0
        marked: list[int] = []
        an_hour = 0
        for block, mark in blocks_of(body):
            digest.update(json.dumps(block, sort_keys=True).encode())
            total += tokens_of(block)
            before.append((digest.digest(), total))
            if mark is not None:
                marked.append(len(before) - 1)
                an_hour = total if mark.get("ttl") == "1h" else an_hour
        if body.get("cache_control"):
            marked.append(len(before) - 1)
        looked_at = {place for end in marked for place in range(max(1, end - LOOKED_BACK), end + 1)}
        read = max((before[at][1] for at in looked_at if before[at][0] in self._cached), default=0)
        written = max((before[at][1] for at in marked if before[at][1] >= LEAST_CACHED), default=0)
        self._cached |= {before[at][0] for at in marked if before[at][1] >= LEAST_CACHED}
        return {
            "input_tokens": total - max(read, written),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": max(0, written - read),
            "ephemeral_1h_input_tokens": max(0, min(an_hour, written) - read),
            "output_tokens": max(1, sum(map(tokens_of, answer.content))),
        }


def check(body: Fields, most_output: int) -> None:
    """Raise `RefusedError` for what the API does not take."""
    for name in body.keys() - KNOWN:
        raise RefusedError(f"{name}: Extra inputs are not permitted")
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            raise RefusedError(f"{name}: Field required")
    if body["max_tokens"] > most_output:
        limit = f"{most_output}, which is the maximum allowed number of output tokens for {body['model']}"
        raise RefusedError(f"max_tokens: {body['max_tokens']} > {limit}")
    if body.get("temperature", 0) > 1:
        raise RefusedError("temperature: range: 0..1")
    if sum(mark is not None for _, mark in blocks_of(body)) > MOST_MARKS:
        raise RefusedError("A maximum of 4 blocks with cache_control may be provided.")
    thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    if thinks and body.get("temperature", 1) != 1:
        raise RefusedError("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if thinks and (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise RefusedError("Thinking may not be enabled when tool_choice forces tool use.")
    if not body["messages"]:
        raise RefusedError("messages: at least one message is required")
    waiting: list[str] = []  # calls whose results must come next
    for at, turn in enumerate(body["messages"]):
        _check_turn(turn, at, waiting, is_last=at == len(body["messages"]) - 1)
        if turn["role"] != "system":
            waiting = [block["id"] for block in _content(turn) if block["type"] == "tool_use"]


def _check_turn(turn: Fields, at: int, waiting: list[str], *, is_last: bool) -> None:
    where, blocks = f"messages.{at}", _content(turn)
    if turn["role"] not in ROLES:
        raise RefusedError(f"{where}: unexpected role {turn['role']!r}")
    if not blocks and not (is_last and turn["role"] == "assistant"):
        raise RefusedError(f"{where}: all messages must have non-empty content except for the optional final one")
    results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    if turn["role"] == "user" and (missing := [id_ for id_ in waiting if id_ not in results]):
        raise RefusedError(f"{where}: `tool_use` ids were found without `tool_result` blocks: {', '.join(missing)}")
    if any(id_ not in waiting for id_ in results):
        raise RefusedError(f"{where}: unexpected `tool_use_id` found in `tool_result` blocks")
    for number, block in enumerate(blocks):
        path = f"{where}.content.{number}"
        match block["type"]:
            case "text" if not block["text"].strip():
                raise RefusedError("messages: text content blocks must be non-empty")
            case "thinking" if block.get("signature") != signature_of(block["thinking"]):
                raise RefusedError(f"{path}: Invalid `signature` in `thinking` block")
            case "tool_use" if not isinstance(block["input"], dict):
                raise RefusedError(f"{path}.tool_use.input: Input should be a valid dictionary")
            case "tool_result" if number and blocks[number - 1]["type"] != "tool_result":
                raise RefusedError(f"{path}: tool_result blocks must come first")
    if is_last and turn["role"] == "assistant" and blocks and blocks[-1].get("text", "").endswith((" ", "\n")):
        raise RefusedError("messages: final assistant content cannot end with trailing whitespace")


def blocks_of(body: Fields) -> Iterator[tuple[Fields, Fields | None]]:
    """Yield the blocks of a request in the order in which they are cached, without and with the mark of each."""
    system = body.get("system") or []
    blocks = [*body.get("tools", ()), *([{"type": "text", "text": system}] if isinstance(system, str) else system)]
    for block in (*blocks, *(block for turn in body["messages"] for block in _content(turn))):
        yield {name: value for name, value in block.items() if name != "cache_control"}, block.get("cache_control")


def _content(turn: Fields) -> list[Fields]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def tokens_of(block: Fields) -> int:
    """Return the tokens of a block, by a measure of the server's own."""
    return -(-len(json.dumps(block, ensure_ascii=False)) // CHARACTERS)


@asynccontextmanager
async def messaging(turn: Turn, **options: Any) -> AsyncIterator[MessagesServer]:
    """Run a server on a free port; its URL is that of a configuration."""
    server = MessagesServer(turn, **options)
    async with serving(server, {"/v1/messages": server.answer, "/v1/messages/count_tokens": server.count}):
        yield server


def always(*content: Fields, **fields: Any) -> Turn:
    """Return a turn that always answers with these blocks."""
    return lambda _: Answer(content=content, **fields)


def in_turn(*answers: Answer | RefusedError) -> Turn:
    """Return a turn that gives one of these after the other; the last one again and again."""
    left = [*answers]

    def turn(_: Fields) -> Answer:
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, RefusedError):
            raise given
        return given

    return turn
