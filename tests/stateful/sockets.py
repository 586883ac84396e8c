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
from tests.stateful.clients import ConnectionChecker, Faults, PendingRequest
from tests.stateful.expectations import Received
from tests.stateful.simulation import TENANTS, frame_of, others_of
from tests.support.server import configuration_for, serving, without_delays
from tests.support.waiting import PATIENCE_S, until

STEPS = 16
AT_ONCE = 16  # walks
DRAIN_S = 2.0
LANES = (None, "one", "two")
PACES = ("", "", "[ttft=0.03]", "[rate=600] [tokens=80]", "[rate=150] [tokens=20]", "[tokens=6000]", "[reason=12]")
FAULTS = ("end@5", "hangup@9", "reset@6", "error", "error@7", "overloaded", "malformed@5", "html", "nousage")
STUCK = ("[ttft=60]", "[fault=stall@6]", "[fault=silent]", "[rate=50] [tokens=5000]")


class Client:
    """One connection and the task that reads it."""

    def __init__(self, connection: ClientConnection, checker: ConnectionChecker, tenant: str, faults: Faults) -> None:
        self.connection = connection
        self.checker = checker
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
                self._faults.watch(self.checker.take, await self.connection.recv())

    async def send(self, frame: dict[str, Any]) -> None:
        await self.connection.send(json.dumps(frame))

    async def leave(self, *, abrupt: bool) -> None:
        self.left = True
        self.task.cancel()
        if abrupt:
            self.connection.transport.abort()
        else:
            await self.connection.close()


class SharedServer:
    """What all walks share: a server, two tenants' keys, and what was told of every response."""

    def __init__(self, url: str, texts: dict[str, str], models: tuple[Simulator, Simulator]) -> None:
        self.url = url
        self.models = models
        self.received = Received()
        self.faults = Faults()
        self.numbers = iter(range(10**9))
        self.happened: Counter[str] = Counter()
        self._texts = texts

    async def client(self, tenant: str, *, negotiated: bool) -> Client:
        connection = await connect(
            self.url.replace("http", "ws", 1) + "/v1/responses",
            subprotocols=[Subprotocol("millrace.v1")] if negotiated else None,
            additional_headers={"Authorization": f"Bearer {self._texts[tenant]}"},
            compression=None,
            max_size=None,
            open_timeout=PATIENCE_S,
        )
        checker = ConnectionChecker(self.received, tenant, others_of(tenant), negotiated=negotiated)
        return Client(connection, checker, tenant, self.faults)

    async def check_still(self) -> None:
        """Fail unless nothing runs any more."""
        assert not self.faults, self.faults
        await until(lambda: not any(model.stats.running for model in self.models))
        async with aiohttp.ClientSession() as http, http.get(self.url + "/healthz") as answer:
            assert (await answer.json())["running"] == 0


class RandomWalk:
    """One sequence."""

    def __init__(self, shared: SharedServer, seed: int) -> None:
        self._shared = shared
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
        await until(lambda: not any(map(self._owed, here)))
        for client in here:
            await client.leave(abrupt=False)

    async def _step(self) -> None:
        client = self._one([client for client in self._clients if not client.left])
        if client is None:
            await self._connect()
            return
        steps = {self._create: 6, self._cancel: 2, self._resume: 2, self._read: 2, self._leave: 1}
        step = self._random.choices([*steps], weights=[*steps.values()])[0]
        self._shared.happened[step.__name__.strip("_")] += 1
        await step(client)
        if self._random.random() < 0.15:
            await self._connect()

    async def _connect(self) -> None:
        client = await self._shared.client(self._random.choice(TENANTS), negotiated=self._random.random() < 0.6)
        self._clients.append(client)

    async def _create(self, client: Client) -> None:
        number = next(self._shared.numbers)
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
            reasoning={"summary": "auto"} if number // 40 % 2 else None,  # alike where requests are shared
            millrace={name: value for name, value in options.items() if value is not None},
        )
        client.checker.expect(PendingRequest(frame["event_id"], lane, mark))
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
        negotiated = client.checker.negotiated
        count = self._shared.received.count(response_id, negotiated=negotiated)
        after = self._random.choice((-1, count // 2 - 1, count - 1, count + 100_000))
        lane = self._shared.received.lanes[response_id]
        request = PendingRequest(
            f"event-{next(self._shared.numbers)}", lane, "", response_id, after + 1, late=after == count - 1
        )
        client.checker.expect(request)
        epoch = self._random.choice((self._epoch, self._epoch, self._epoch, "another"))
        fields = {"response_id": response_id, "after": after, "epoch": epoch, "event_id": request.event_id}
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
        return next((client.checker.epoch for client in self._clients if client.checker.epoch), "unknown")

    def _response(self) -> str | None:
        known = [*self._shared.received.owners][-12:]
        return self._random.choice(known) if known else None

    def _owed(self, client: Client) -> bool:
        return bool(self._shared.faults) is False and bool(client.checker.outstanding)

    def _one(self, some: list[Any]) -> Any:
        return self._random.choice(some) if some else None


@asynccontextmanager
async def shared_server() -> AsyncIterator[SharedServer]:
    """Run a server with two tenants; when it is left, it drains under load."""
    texts = {}
    with tempfile.TemporaryDirectory() as data_dir:
        async with key_store(data_dir) as store:
            for tenant in TENANTS:
                key, texts[tenant] = keys.make(tenant=tenant, role=Role.USE, created_at=time.time())
                await store.add(key)
        async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
            configuration = configuration_for(small.base_url, large.base_url, data_dir=data_dir, drain_s=DRAIN_S)
            async with serving(configuration) as url:
                shared = SharedServer(url, texts, (small, large))
                yield shared
                await shared.check_still()
                last = await _under_way(shared)
            for client in last:
                await client.task
                assert client.connection.close_code == 1012, client.connection.close_code
                assert not client.checker.outstanding, client.checker.outstanding
            assert not shared.faults, shared.faults
            assert not any(model.stats.running for model in shared.models)


async def _under_way(shared: SharedServer) -> list[Client]:
    """Return clients whose answers fit into the drain, and some whose answers do not."""
    clients = [await shared.client(tenant, negotiated=at % 2 == 0) for at, tenant in enumerate(TENANTS * 3)]
    for at, client in enumerate(clients):
        mark = f"{client.tenant}-last-{at}"
        pace = "[rate=50] [tokens=40]" if at % 3 else "[rate=50] [tokens=5000]"
        client.checker.expect(PendingRequest(mark, None, mark))
        request = {"input": f"{mark} {pace}", "metadata": {"mark": mark}, "event_id": mark}
        await client.send(frame_of("response.create", **request))
    await until(lambda: all(client.checker.current for client in clients))
    return clients


async def walks(count: int, seed: int) -> Counter[str]:
    """Take so many walks, some at once; return what has happened."""
    async with shared_server() as shared:
        for at in range(0, count, AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for number in range(at, min(count, at + AT_ONCE)):
                    group.create_task(RandomWalk(shared, seed + number).go())
            assert not shared.faults, shared.faults
            if at % (10 * AT_ONCE) == 0:
                await shared.check_still()
        for history in shared.received.histories.values():
            shared.happened.update(history.kinds)
        shared.happened["replayed"] = shared.received.repeated
    return shared.happened
