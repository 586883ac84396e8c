"""One Millrace in front of models that fail as they are told, with clients of each dialect, and what it holds."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from millrace.funnel.breaker import State
from millrace.funnel.pools import RETRIES
from millrace.stores.database import FILE
from millrace.stores.ledger_json import Call, read_calls
from millrace.web.process import Process
from tests.fire.models import FAULTY, SOUND_ONE, Models, models
from tests.support.server import PRICES, configuration_for, serving

SILENCE_S = 1.0  # that a model may be silent
MEND_S = 20.0  # for a breaker to close: a probe, or a time for which it was asked to wait


@dataclass(slots=True)
class Stage:
    """A server that runs."""

    url: str
    models: Models
    process: Process
    http: aiohttp.ClientSession
    sockets: dict[str, ClientConnection] = field(default_factory=dict)

    async def mended(self) -> None:
        """Wait until no deployment is left alone, and have all retries in store: so many failures would use them up."""
        for pool in self.process.funnel.health.pools.values():
            pool._retries = RETRIES
        async with asyncio.timeout(MEND_S):
            while any(place.breaker.state is not State.CLOSED for place in self.process.funnel.health.places):
                await asyncio.sleep(0.02)

    async def idle(self, within_s: float) -> float:
        """Wait until nothing runs, no model is read and nothing is reserved; return how long that took."""
        time = asyncio.get_running_loop().time
        began = time()
        while held := self._held():
            assert time() - began < within_s, f"still {held} after {within_s:g} s"
            await asyncio.sleep(0.002)
        return time() - began

    def _held(self) -> str:
        places = self.process.funnel.health.places
        reserved = [
            account
            for account in self.process.intake._limiter.accounts  # type: ignore[attr-defined]
            if account.in_flight or account.reserved_tokens or account.reserved_cost
        ]
        held = {
            "a run": self.process.runs.running,
            "a request": self.process.funnel.running,
            "a call": [place for place in places if place.running or place.waiting],
            "a model's socket": self.models.open,
            "a reservation": reserved,
        }
        return ", ".join(what for what, which in held.items() if which)


def configuration(api: str, served: Models, *, pulls: bool, folder: Path) -> dict[str, Any]:
    """The small model has one deployment, which fails as it is told; the large one also another, which never does."""
    faulty, sound = served.base_url(FAULTY), served.base_url(SOUND_ONE)
    client = "aiohttp" if pulls else "httptools"
    found = configuration_for(faulty, faulty, data_dir=str(folder), upstream_client=client)
    for model in found["models"].values():
        model |= {"upstream": api, "first_token_timeout_s": SILENCE_S, "stall_timeout_s": SILENCE_S}
    found["models"]["large"]["deployments"] = [{"weight": 1000}, {"base_url": sound}]  # the one that fails is asked
    found["limits"] = {"in_flight": 1000, "dollars_per_day": "1000"}
    return found | {"cache": {"exact": False, "semantic": False}}


@asynccontextmanager
async def stage(api: str, *, pulls: bool, folder: Path) -> AsyncIterator[Stage]:
    """Run a server whose models have this API; `pulls`: they are read by aiohttp."""
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(models(api))
        connections: set[Any] = set()
        settings = configuration(api, served, pulls=pulls, folder=folder)
        url = await stack.enter_async_context(serving(settings, connections=connections))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        async with http.get(f"{url}/healthz"):
            process = next(iter(connections)).app_state["process"]
        running = Stage(url, served, process, http)
        for name, protocols in (("websocket", [Subprotocol("millrace.v1")]), ("plain websocket", None)):
            address = f"{url.replace('http', 'ws', 1)}/v1/responses"
            socket = await stack.enter_async_context(connect(address, subprotocols=protocols, compression=None))
            if protocols:
                await socket.recv()  # its hello
            running.sockets[name] = socket
        yield running


@dataclass(frozen=True, slots=True)
class Row:
    """What the ledger has of one request."""

    status: str
    code: str | None
    cost: int  # nanodollars
    calls: list[Call]


def rows(folder: Path) -> dict[str, list[Row]]:
    """Return the rows of a ledger by request, once the server has ended."""
    found: dict[str, list[Row]] = {}
    with closing(sqlite3.connect(folder / FILE)) as file:
        for id_, *row, calls in file.execute("SELECT request_id, status, code, cost_nanodollars, calls FROM entries"):
            found.setdefault(id_, []).append(Row(*row, read_calls(calls)))
    return found


def nanodollars(call: Call) -> int:
    """Return what a call costs by its tokens."""
    price = PRICES[call.model.removesuffix("-model")]
    dollars = call.input_tokens * Decimal(price["input"]) + call.output_tokens * Decimal(price["output"])
    return int(dollars * 1000)
