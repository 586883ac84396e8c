"""The same over real sockets: a real server, real clients, simulated models over real HTTP, and the time it takes.

Real time does not repeat itself, so these are random walks under a seed: the same things in the same order, no more.
"""

import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from millrace.simulator import LARGE, SMALL, Simulator
from tests.conftest import at_once, serving, tree, until
from tests.stateful.clients import Asked, Faults, Listener
from tests.stateful.expectations import Books
from tests.stateful.simulation import TENANTS, frame_of, others_of

STEPS = 16
AT_ONCE = 16  # walks
PATIENCE_S = 30.0
DRAIN_S = 2.0
LANES = (None, "one", "two")
PACES = ("", "", "[ttft=0.03]", "[rate=600] [tokens=80]", "[rate=150] [tokens=20]", "[tokens=6000]", "[reason=12]")
FAULTS = ("end@5", "hangup@9", "reset@6", "error", "error@7", "overloaded", "malformed@5", "html", "nousage")
STUCK = ("[ttft=60]", "[fault=stall@6]", "[fault=silent]", "[rate=50] [tokens=5000]")


class Client:
    """One connection and the task that reads it."""

    def __init__(self, connection: ClientConnection, listener: Listener, tenant: str, faults: Faults) -> None:
        self.connection = connection
        self.listener = listener
        self.tenant = tenant
        self.reading = asyncio.Event()
        self.reading.set()
        self.left = False
        self._faults = faults
        self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self.reading.wait()
                self._faults.watch(self.listener.take, await self.connection.recv())

    async def send(self, frame: dict[str, Any]) -> None:
        await self.connection.send(json.dumps(frame))

    async def leave(self, *, abrupt: bool) -> None:
        self.left = True
        self.task.cancel()
        if abrupt:
            self.connection.transport.abort()
        else:
            await self.connection.close()


class Ground:
    """What all walks share: a server, two tenants' keys, and what was told of every response."""

    def __init__(self, url: str, texts: dict[str, str], models: tuple[Simulator, Simulator]) -> None:
        self.url = url
        self.models = models
        self.books = Books()
        self.faults = Faults()
        self.numbers = iter(range(10**9))
        self.met: Counter[str] = Counter()
        self._texts = texts

    async def client(self, tenant: str, *, negotiated: bool) -> Client:
        connection = await connect(
            self.url.replace("http", "ws", 1) + "/v1/responses",
            subprotocols=[Subprotocol("millrace.v1")] if negotiated else None,
            additional_headers={"Authorization": f"Bearer {self._texts[tenant]}"},
            compression=None,
            max_size=None,
        )
        listener = Listener(self.books, tenant, others_of(tenant), negotiated=negotiated)
        return Client(connection, listener, tenant, self.faults)

    async def check_still(self) -> None:
        """Fail unless nothing runs any more."""
        assert not self.faults, self.faults
        await until(lambda: not any(model.stats.running for model in self.models), PATIENCE_S)
        async with aiohttp.ClientSession() as http, http.get(self.url + "/healthz") as answer:
            assert (await answer.json())["running"] == 0


class Walk:
    """One sequence."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground = ground
        self._random = random.Random(seed)
        self._clients: list[Client] = []

    async def go(self) -> None:
        """Take the steps, then read all that is owed."""
        await self._connect()
        for _ in range(STEPS):
            await self._step()
            await asyncio.sleep(self._random.choice((0, 0, 0, 0.01, 0.03)))
        here = [client for client in self._clients if not client.left]
        for client in here:
            client.reading.set()
        await until(lambda: not any(map(self._owed, here)), PATIENCE_S)
        for client in here:
            await client.leave(abrupt=False)

    async def _step(self) -> None:
        client = self._one([client for client in self._clients if not client.left])
        if client is None:
            await self._connect()
            return
        steps = {self._create: 6, self._cancel: 2, self._resume: 2, self._read: 2, self._leave: 1}
        step = self._random.choices([*steps], weights=[*steps.values()])[0]
        self._ground.met[step.__name__.strip("_")] += 1
        await step(client)
        if self._random.random() < 0.15:
            await self._connect()

    async def _connect(self) -> None:
        client = await self._ground.client(self._random.choice(TENANTS), negotiated=self._random.random() < 0.6)
        self._clients.append(client)

    async def _create(self, client: Client) -> None:
        number = next(self._ground.numbers)
        mark, lane = f"{client.tenant}-{number}", self._random.choice(LANES)
        shared = self._random.random() < 0.3
        pace = self._random.choice(PACES)
        deadline = None
        if not shared and self._random.random() < 0.3:
            pace += f" [fault.{self._random.choice(('small', 'large'))}={self._random.choice(FAULTS)}]"
        elif not shared and self._random.random() < 0.2:
            pace, deadline = self._random.choice(STUCK), 400
        options = {
            "strategy": self._random.choice(("cascade", "cascade", "auto", "small", "large", "race", "hedge")),
            "delivery": self._random.choice((None, None, "speculate", "prefix", "commit", "final")),
            "on_disconnect": self._random.choice((None, None, "detach")),
            "deadline_ms": deadline,
        }
        weak = self._random.choice(("", "[weak.small]", "[refuse.small]"))
        frame = frame_of(
            "response.create",
            stream_id=lane,
            event_id=f"event-{number}",
            input=f"{client.tenant} asks {number // 40 if shared else number} {pace} {weak}",
            metadata={"mark": mark},
            millrace={name: value for name, value in options.items() if value is not None},
        )
        client.listener.expect(Asked(frame["event_id"], lane, mark))
        await self._send(client, frame)

    async def _cancel(self, client: Client) -> None:
        response_id = self._response()
        if self._random.random() < 0.3 or response_id is None:
            await self._send(client, frame_of("response.cancel", stream_id=self._random.choice(LANES)))
        else:
            await self._send(client, frame_of("response.cancel", response_id=response_id))

    async def _resume(self, client: Client) -> None:
        response_id = self._response()
        if response_id is None:
            return
        negotiated = client.listener.negotiated
        told = self._ground.books.told(response_id, negotiated=negotiated)
        after = self._random.choice((-1, told // 2 - 1, told - 1, told + 100_000))
        lane = self._ground.books.lanes[response_id]
        asked = Asked(f"event-{next(self._ground.numbers)}", lane, "", response_id, after + 1, late=after == told - 1)
        client.listener.expect(asked)
        epoch = self._random.choice((self._epoch, self._epoch, self._epoch, "another"))
        fields = {"response_id": response_id, "after": after, "epoch": epoch, "event_id": asked.event_id}
        await self._send(client, frame_of("millrace.resume", **fields))

    async def _read(self, client: Client) -> None:
        if client.reading.is_set():
            client.reading.clear()
        else:
            client.reading.set()

    async def _leave(self, client: Client) -> None:
        await client.leave(abrupt=self._random.random() < 0.5)

    async def _send(self, client: Client, frame: dict[str, Any]) -> None:
        await client.send(frame)

    @property
    def _epoch(self) -> str:
        return next((client.listener.epoch for client in self._clients if client.listener.epoch), "unknown")

    def _response(self) -> str | None:
        known = [*self._ground.books.owners][-12:]
        return self._random.choice(known) if known else None

    def _owed(self, client: Client) -> bool:
        return bool(self._ground.faults) is False and bool(client.listener.owed)

    def _one(self, some: list[Any]) -> Any:
        return self._random.choice(some) if some else None


@asynccontextmanager
async def grounds() -> AsyncIterator[Ground]:
    """Run a server with two tenants; when it is left, it drains under load."""
    texts = {}
    with tempfile.TemporaryDirectory() as data_dir:
        async with key_store(data_dir) as store:
            for tenant in TENANTS:
                key, texts[tenant] = keys.make(tenant=tenant, role=Role.USE, created_at=time.time())
                await store.add(key)
        async with Simulator(at_once(SMALL)) as small, Simulator(at_once(LARGE)) as large:
            configuration = tree(small.base_url, large.base_url, data_dir=data_dir, drain_s=DRAIN_S)
            async with serving(configuration) as url:
                ground = Ground(url, texts, (small, large))
                yield ground
                await ground.check_still()
                last = await _under_way(ground)
            for client in last:
                await client.task
                assert client.connection.close_code == 1012, client.connection.close_code
                assert not client.listener.owed, client.listener.owed
            assert not ground.faults, ground.faults
            assert not any(model.stats.running for model in ground.models)


async def _under_way(ground: Ground) -> list[Client]:
    """Return clients whose answers fit into the drain, and some whose answers do not."""
    clients = [await ground.client(tenant, negotiated=at % 2 == 0) for at, tenant in enumerate(TENANTS * 3)]
    for at, client in enumerate(clients):
        mark = f"{client.tenant}-last-{at}"
        pace = "[rate=50] [tokens=40]" if at % 3 else "[rate=50] [tokens=5000]"
        client.listener.expect(Asked(mark, None, mark))
        asked = {"input": f"{mark} {pace}", "metadata": {"mark": mark}, "event_id": mark}
        await client.send(frame_of("response.create", **asked))
    await until(lambda: all(client.listener.telling for client in clients))
    return clients


async def walks(count: int, seed: int) -> Counter[str]:
    """Take so many walks, some at once; return what has happened."""
    async with grounds() as ground:
        for at in range(0, count, AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for number in range(at, min(count, at + AT_ONCE)):
                    group.create_task(Walk(ground, seed + number).go())
            assert not ground.faults, ground.faults
            if at % (10 * AT_ONCE) == 0:
                await ground.check_still()
        for telling in ground.books.tellings.values():
            ground.met.update(telling.kinds)
        ground.met["told again"] = ground.books.again
    return ground.met
