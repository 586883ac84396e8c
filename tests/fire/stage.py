"""One Millrace in front of models that fail as they are told, with clients of each dialect, and what it holds."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from millrace.funnel.pools import RETRIES
from millrace.stores.database import FILE
from millrace.stores.ledger_json import Call, read_calls
from millrace.web.process import Process
from tests.fire.models import FAULTY, SOUND_ONE, Models, models
from tests.support.proxy import Proxy, proxy_to
from tests.support.server import PRICES, configuration_for, serving

_ROWS = "SELECT request_id, tag, status, code, cost_nanodollars, calls FROM entries"
SILENCE_S = 3.0  # that a model may be silent
MEND_S = 60.0  # for a breaker to close: a probe, or a time for which it was asked to wait


@dataclass(slots=True)
class Stage:
    """A server that runs."""

    url: str
    models: Models
    line: Proxy  # to the model that fails
    process: Process

    async def mended(self) -> None:
        """Wait until no deployment is left alone, and have all retries in store: so many failures would use them up."""
        for pool in self.process.funnel.health.pools.values():
            pool._retries = RETRIES
        time = asyncio.get_running_loop().time
        began, places = time(), self.process.funnel.health.places
        while any(not place.breaker.is_closed for place in places):
            assert time() - began < MEND_S, f"left alone for {MEND_S:g} s: {self.breakers}"
            await asyncio.sleep(0.02)

    @property
    def breakers(self) -> str:
        """What the breakers of all deployments say."""
        places = self.process.funnel.health.places
        return ", ".join(f"{place.name}: {place.breaker.state} {place.breaker.cause}" for place in places)

    @property
    def spent(self) -> int:
        """Nanodollars that are spent of the limit of the one who asks."""
        accounts = self.process.intake._limiter.accounts  # type: ignore[attr-defined]
        return sum(int(account.settled_cost * 10**9) for account in accounts)

    async def idle(self, within_s: float) -> float:
        """Wait until nothing is held; return how long that took."""
        return await idle(self.process, lambda: bool(self.models.open), within_s)


async def idle(process: Process, is_read: Callable[[], bool], within_s: float) -> float:
    """Wait until nothing runs, no model is read (`is_read`) and nothing is reserved; return how long that took."""
    time = asyncio.get_running_loop().time
    began = time()
    while held := _held_by(process, is_read=is_read()):
        assert time() - began < within_s, f"still {held} after {within_s:g} s"
        await asyncio.sleep(0.002)
    return time() - began


def _held_by(process: Process, *, is_read: bool) -> str:
    places = process.funnel.health.places
    accounts = process.intake._limiter.accounts  # type: ignore[attr-defined]
    held = {
        "a run": process.runs.running,
        "a request": process.funnel.running,
        "a call": [place for place in places if place.running or place.waiting],
        "a model's socket": is_read,
        "a reservation": [each for each in accounts if each.in_flight or each.reserved_tokens or each.reserved_cost],
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
    found["limits"] = {"tenant": {"in_flight": 1000, "dollars_per_day": "1000"}}  # so that something is reserved
    return found | {"cache": {"exact": False, "semantic": False}}


@asynccontextmanager
async def stage(api: str, *, pulls: bool, folder: Path) -> AsyncIterator[Stage]:
    """Run a server whose models have this API; `pulls`: they are read by aiohttp."""
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(models(api))
        line = await stack.enter_async_context(proxy_to(served.url))
        served.line = line.url
        connections: set[Any] = set()
        settings = configuration(api, served, pulls=pulls, folder=folder)
        url = await stack.enter_async_context(serving(settings, connections=connections))
        async with aiohttp.ClientSession() as http, http.get(f"{url}/healthz"):
            process = next(iter(connections)).app_state["process"]
        yield Stage(url, served, line, process)


@dataclass(frozen=True, slots=True)
class Row:
    """What the ledger has of one request."""

    tag: str
    status: str
    code: str | None
    cost: int  # nanodollars
    calls: list[Call]


def rows(folder: Path) -> dict[str, list[Row]]:
    """Return the rows of a ledger by request, once the server has ended."""
    found: dict[str, list[Row]] = {}
    with closing(sqlite3.connect(folder / FILE)) as file:
        for id_, tag, status, code, cost, calls in file.execute(_ROWS):
            found.setdefault(id_, []).append(Row(tag, status, code, cost, read_calls(calls)))
    return found


def nanodollars(call: Call) -> int:
    """Return what a call costs by its tokens."""
    price = PRICES[call.model.removesuffix("-model")]
    dollars = call.input_tokens * Decimal(price["input"]) + call.output_tokens * Decimal(price["output"])
    return int(dollars * 1000)
