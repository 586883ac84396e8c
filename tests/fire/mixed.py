"""Clients of every dialect on one server: they ask, cancel, leave, come back, work as agents, and send batches."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any, Self

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from millrace.errors import MillraceError
from millrace_client import Client
from millrace_client.stream import ConnectionLostError
from tests.fire import agents
from tests.fire.agents import BrokenError
from tests.fire.questions import Questions
from tests.support import batches
from tests.support.byte_client import ByteClient
from tests.support.chat_client import ChatClient
from tests.support.http_client import CHAT, MESSAGES, RESPONSES, body_of

SOCKETS = 3  # of each tenant
PATIENCE_S = 180.0  # for a request, or a session
MOST = 120  # visits at once: where a machine has no time for more, they do not pile up
BATCH = 30  # lines
STAYS_S = (0.05, 1.0)  # until a client cancels or leaves
OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {}, {}, {}, {"strategy": "race"}, {"strategy": "hedge", "hedge_ms": 20}, {"strategy": "large"},
    {"strategy": "cascade", "delivery": "speculate"}, {"delivery": "commit"}, {"deadline_ms": 60}, {"cache": "refresh"},
    {"max_output_tokens": 12}, {"tag": "night"}, {"tag": "day"}, {"safety_identifier": "user-1"}, {"concise": True},
)  # fmt: skip
TROUBLES = ("[fault.small=error]", "[fault.small=hangup@4]", "[fault=nousage]", "[weak]", "[weak]", "[weak]", "[weak]",
            "[fault.small=reset@3]", "[reason=10]", "[refuse]")  # fmt: skip
ENDS = (MillraceError, BrokenError, ConnectionLostError, aiohttp.ClientError, OSError, AssertionError,
        WebSocketException)  # fmt: skip
Act = Callable[[], Awaitable[str]]


class Mixed:
    """Clients with one seed. `ends` counts how each kind of visit ended; `faults` has what must not be.

    `late` counts visits that took longer than anybody waits: on a machine with much else to do that is no fault.
    """

    def __init__(self, url: str, keys: tuple[str, ...], seed: int) -> None:
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []
        self.requests = self.late = 0
        self._url, self._ws_url = url, url.replace("http", "ws", 1)
        self._keys = keys or ("",)
        self._chance = Random(f"mixed {seed}")
        self._questions = Questions(seed)
        self._stack = AsyncExitStack()
        self._clients: list[Client] = []
        self._http: aiohttp.ClientSession
        self._running: set[asyncio.Task[None]] = set()
        self._kinds: dict[str, tuple[float, Act]] = {
            "socket": (24, self._ask),
            "socket, trouble": (6, self._trouble),
            "socket, cancelled": (6, self._cancel),
            "socket, left": (3, self._leave),
            "socket, resumed": (4, self._resume),
            "SSE": (10, self._sse),
            "SSE, left": (3, self._leave_sse),
            "document, stored": (3, self._store),
            "chat completions": (6, lambda: self._stream(CHAT)),
            "messages": (8, lambda: self._stream(MESSAGES)),
            "messages, left": (2, lambda: self._stream(MESSAGES, leaves=True)),
            "AI SDK": (8, self._chat),
            "AI SDK, aborted": (2, self._abort_chat),
            "AI SDK, resumed": (2, self._resume_chat),
            "agent, socket": (2, self._agent_on_socket),
            "agent, responses": (1, lambda: self._agent("responses")),
            "agent, chat completions": (1, lambda: self._agent("chat")),
            "agent, messages": (2, lambda: self._agent("messages")),
        }

    async def __aenter__(self) -> Self:
        for key in self._keys * SOCKETS:
            client = Client(self._ws_url, api_key=key or None)
            self._clients.append(await self._stack.enter_async_context(client))
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=PATIENCE_S)
        session = aiohttp.ClientSession(self._url, connector=connector, timeout=timeout)
        self._http = await self._stack.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._stack.aclose()

    @property
    def running(self) -> int:
        """How many visits run."""
        return len(self._running)

    async def arrive(self, per_s: float, seconds: float, batch_every_s: float = 60.0) -> None:
        """Let visits begin at random moments, so many a second, and a batch every while."""
        loop = asyncio.get_running_loop()
        over = loop.time() + seconds
        due, next_batch = loop.time(), loop.time() + min(batch_every_s, 5.0)
        names, weights = [*self._kinds], [weight for weight, _ in self._kinds.values()]
        while due < over:
            due += self._chance.expovariate(per_s)
            await asyncio.sleep(max(due - loop.time(), 0))
            (name,) = self._chance.choices(names, weights)
            if self.running < MOST:
                self._begin(name, self._kinds[name][1])
            else:
                due = loop.time()
            if due > next_batch:
                next_batch += batch_every_s
                self._begin("batch", self._batch)

    async def settled(self) -> None:
        """Wait until all visits have ended."""
        await asyncio.gather(*self._running)

    def _begin(self, name: str, act: Act) -> None:
        task = asyncio.create_task(self._visit(name, act))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _visit(self, name: str, act: Act) -> None:
        self.requests += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                end = await act()
        except TimeoutError:
            self.late += 1
            end = "late"
        except ENDS as error:
            end = f"{type(error).__name__}: {error}"[:300]
            self.faults.append(f"{name}: {end}")
            end = type(error).__name__
        self.ends[f"{name}: {end}"] += 1

    # Over WebSockets.

    async def _ask(self) -> str:
        options = self._chance.choice(OPTIONS)
        return await self._streamed(self._questions.any(), **options)

    async def _trouble(self) -> str:
        return await self._streamed(f"{self._questions.new()} {self._chance.choice(TROUBLES)}")

    async def _cancel(self) -> str:
        return await self._streamed(self._questions.slow(), stays_s=self._chance.uniform(*STAYS_S))

    async def _streamed(self, text: str, stays_s: float | None = None, **options: Any) -> str:
        client = self._chance.choice(self._clients)
        stream = client.stream(text, **options)
        if stays_s is not None:
            asyncio.get_running_loop().call_later(stays_s, stream.cancel)
        with suppress(MillraceError):
            async for _ in stream:
                pass
        if stream.response is None:
            return "refused"
        error = stream.response.error
        return stream.response.status if error is None else f"{stream.response.status} {error.code}"

    async def _leave(self) -> str:
        async with self._connected() as client:
            await client.create(self._questions.slow(), {"on_disconnect": "cancel"})
            await asyncio.sleep(self._chance.uniform(*STAYS_S))
            client.cut()
        return "left"

    async def _resume(self) -> str:
        key = self._chance.choice(self._keys)
        async with self._connected(key) as client:
            await client.create(self._questions.slow())
            seen = [await client.event() for _ in range(self._chance.randint(2, 40))]
            client.cut()
        response_id = seen[0]["response"]["id"]
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        async with self._connected(key) as client:
            await client.resume(response_id, seen[-1]["sequence_number"])
            rest = [json.loads(frame) for frame in await client.to_the_end()]
        numbers = [event["sequence_number"] for event in (*seen, *rest) if "sequence_number" in event]
        if numbers != [*range(len(numbers))]:
            raise BrokenError(f"a resume leaves a gap: {numbers}, {rest[0]}")
        return str(rest[-1]["type"])

    @asynccontextmanager
    async def _connected(self, key: str | None = None) -> Any:
        url, head = f"{self._ws_url}/v1/responses", self._head(key)
        options: dict[str, Any] = {"compression": None, "additional_headers": head, "open_timeout": PATIENCE_S}
        async with connect(url, subprotocols=[Subprotocol("millrace.v1")], **options) as connection:
            hello = json.loads(await connection.recv())
            yield ByteClient(connection, hello["epoch"])

    # Over HTTP.

    async def _sse(self) -> str:
        return await self._stream(RESPONSES)

    async def _leave_sse(self) -> str:
        return await self._stream(RESPONSES, leaves=True)

    async def _stream(self, path: str, *, leaves: bool = False) -> str:
        text = self._questions.slow() if leaves else self._questions.any()
        async with self._http.post(path, json=body_of(path, text, stream=True), headers=self._head()) as answer:
            if leaves:
                await answer.content.readany()
                await asyncio.sleep(self._chance.uniform(*STAYS_S))
                answer.close()
                return "left"
            came = await answer.text()
        if answer.status != 200:
            raise BrokenError(f"{path}: {answer.status} {came[:200]}")
        last = {RESPONSES: "event: response.", CHAT: "data: [DONE]", MESSAGES: "event: message_stop"}[path]
        lines = came.rstrip().splitlines()
        if not any(line.startswith(last) for line in lines[-3:]):
            raise BrokenError(f"{path}: ends with {lines[-1:]}")
        return "ended"

    async def _store(self) -> str:
        """Store a response, read it, often delete it, and say that it was good."""
        head = self._head()
        body = body_of(RESPONSES, self._questions.new(), store=True)
        async with self._http.post(RESPONSES, json=body, headers=head) as answer:
            response: dict[str, Any] = await answer.json()
        if answer.status != 200:
            raise BrokenError(f"a document: {answer.status} {response}")
        address = f"{RESPONSES}/{response['id']}"
        await self._get(address, head)
        async with self._http.post(f"{address}/feedback", json={"rating": "up"}, headers=head) as answer:
            await answer.read()
        if self._chance.random() < 0.5:
            async with self._http.delete(address, headers=head) as answer:
                await answer.read()
            return f"deleted {answer.status}"
        return str(response["status"])

    async def _get(self, address: str, head: dict[str, str]) -> None:
        async with self._http.get(address, headers=head) as answer:
            if answer.status != 200:
                raise BrokenError(f"{address}: {answer.status} {(await answer.text())[:200]}")
            await answer.read()

    # Chats of the AI SDK.

    async def _chat(self) -> str:
        async with self._chatting() as client:
            chat = f"chat {self._chance.randrange(50)}"
            for _ in range(self._chance.randint(1, 3)):
                chunks = await client.ask(chat, self._questions.any())
        return str(chunks[-1].get("finishReason", chunks[-1]["type"]))

    async def _abort_chat(self) -> str:
        async with self._chatting() as client:
            asked = await client.send(f"chat {self._chance.randrange(50)}", self._questions.slow())
            await asyncio.sleep(self._chance.uniform(*STAYS_S))
            await client.abort(asked)
            await client.until(asked, "end")
        return "aborted"

    async def _resume_chat(self) -> str:
        key, chat = self._chance.choice(self._keys), f"chat of {self._chance.randrange(10**9)}"
        async with self._chatting(key) as client:
            asked = await client.send(chat, self._questions.slow())
            await client.until(asked, "text-delta")
            client.connection.transport.abort()
        async with self._chatting(key) as client:
            asked = await client.resume(chat)
            last = (await client.until(asked, "end", "no-active"))[-1]
        if last["type"] != "end":
            raise BrokenError(f"a chat is not there any more: {last}")
        return "resumed"

    @asynccontextmanager
    async def _chatting(self, key: str | None = None) -> Any:
        url = f"{self._ws_url}/v1/chat/ws"
        options: dict[str, Any] = {"additional_headers": self._head(key), "open_timeout": PATIENCE_S}
        async with connect(url, compression=None, **options) as connection:
            yield ChatClient(connection)

    # What takes longer.

    async def _agent_on_socket(self) -> str:
        client = self._chance.choice(self._clients)
        turns = await agents.over_socket(client, self._questions.new(), self._chance)
        self.requests += turns - 1
        return "ended"

    async def _agent(self, dialect: str) -> str:
        key = self._chance.choice(self._keys)
        topic = self._questions.new()
        turns = await agents.over_http(self._http, dialect, topic, self._chance, key)
        self.requests += turns - 1
        return "ended"

    async def _batch(self) -> str:
        lines = [batches.chat(f"line-{number}", self._questions.any()) for number in range(BATCH)]
        async with batches.client_of(self._url, self._chance.choice(self._keys) or "none") as client:
            batch = await batches.ended(client, await batches.started(client, lines), PATIENCE_S)
            answers = await batches.rows(client, batch.output_file_id)
            await client.files.delete(batch.input_file_id)
        self.requests += BATCH - 1
        if batch.status != "completed" or len({row["custom_id"] for row in answers}) != BATCH:
            raise BrokenError(f"a batch is {batch.status}, with {len(answers)} answers")
        return batch.status

    def _head(self, key: str | None = None) -> dict[str, str]:
        key = self._chance.choice(self._keys) if key is None else key
        return {"Authorization": f"Bearer {key}"} if key else {}
