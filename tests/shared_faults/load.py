"""Clients of several replicas: each asks any of them, and what one has begun is read and cancelled at another."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp
from websockets.exceptions import WebSocketException

from tests.bench import questions as benched
from tests.fire.talk import DIALECTS, PATIENCE_S, RefusedError, Told, ask, body_of as asked_of, of_responses
from tests.shared_faults.place import TOKENS, Place, Replica
from tests.support.http_client import RESPONSES, body_of
from tests.support.wire_client import TERMINALS

MOST = 60  # requests at once: where a machine has no time for more, they do not pile up
SLOW = "[tokens=60] [rate=60]"
WAITS = {"rate_limit_exceeded", "budget_exceeded"}  # answers to whoever has spent a budget
NOT_NOW = {404, 503}  # of what another replica has, while that one cannot be reached
LOST = (aiohttp.ClientError, WebSocketException, OSError, EOFError)
REMEMBERED = 200


@dataclass(slots=True)
class Asked:
    """One request as its client saw it."""

    tag: str
    question: str
    model: str
    told: Told | None = None  # None: its connection was lost


class Load:
    """Clients with one seed. `faults` has what must not be, whatever fails."""

    def __init__(self, place: Place, seed: int) -> None:
        self.asked: list[Asked] = []
        self.faults: list[str] = []
        self.ends: Counter[str] = Counter()
        self._place = place
        self._chance = Random(f"shared faults {seed}")
        self._new = benched.new(f"shared faults {seed}")
        self._known: list[str] = []
        self._numbers = itertools.count()
        self._running: set[asyncio.Task[None]] = set()
        self._kinds: dict[str, tuple[float, Callable[[], Awaitable[str]]]] = {
            "new": (8, self._ask_new),
            "again": (8, self._ask_again),
            "at once": (2, self._ask_at_once),
            "of a budget": (6, self._ask_of_budget),
            "read elsewhere": (2, self._read_elsewhere),
            "cancelled elsewhere": (2, self._cancel_elsewhere),
        }

    async def run(self, seconds: float, per_s: float) -> None:
        """Have so many visits begin in a second, at random moments."""
        loop = asyncio.get_running_loop()
        due, over = loop.time(), loop.time() + seconds
        names, weights = [*self._kinds], [weight for weight, _ in self._kinds.values()]
        while (due := due + self._chance.expovariate(per_s)) < over:
            await asyncio.sleep(max(0.0, due - loop.time()))
            (name,) = self._chance.choices(names, weights)
            if len(self._running) < MOST:
                task = asyncio.create_task(self._visit(name))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def settled(self) -> None:
        """Wait until all have their end."""
        await asyncio.gather(*self._running)

    async def _visit(self, name: str) -> None:
        try:
            end = await self._kinds[name][1]()
        except TimeoutError:
            end = "no end"
            self.faults.append(f"{name}: no end")
        except LOST as error:
            end = f"lost ({type(error).__name__})"
        except AssertionError as error:
            end = "not as the wire has it"
            self.faults.append(f"{name}: {str(error)[:300]}")
        self.ends[f"{name}: {end}"] += 1

    async def _ask_new(self) -> str:
        question = next(self._new)
        end = await self._ask(question)
        self._known = [*self._known[-REMEMBERED:], question]
        return end

    async def _ask_again(self) -> str:
        return await self._ask(self._chance.choice(self._known) if self._known else next(self._new))

    async def _ask_at_once(self) -> str:
        """Ask the same at two replicas at one moment."""
        question = f"{next(self._new)} {SLOW}"
        ends = await asyncio.gather(*(self._ask(question) for _ in range(2)))
        return " and ".join(sorted(ends))

    async def _ask_of_budget(self) -> str:
        dialect = self._chance.choice(("responses", "websocket"))
        question = f"{next(self._new)} [tokens={TOKENS}] [rate=50]"
        return await self._ask(question, dialect, model="large", user="ann", max_output_tokens=TOKENS)

    async def _ask(self, question: str, dialect: str = "", *, model: str = "small", **fields: Any) -> str:
        dialect = dialect or self._chance.choice(DIALECTS)
        asked, replica = self._noted(question, model), self._chance.choice(self._place.replicas)
        options = {"tag": asked.tag} | ({"cache": "off"} if "user" in fields else {})
        body = asked_of(dialect, question, options) | {"model": model} | fields
        key = self._place.keys["user" not in fields and self._chance.random() < 0.5]
        try:
            asked.told = await ask(replica.url, dialect, body, key)
        except RefusedError as error:
            asked.told = Told(id="", status="failed", text="", code=error.code)
        except LOST:
            return "lost"
        told = asked.told
        if told.status == "failed" and not ("user" in fields and told.code in WAITS):
            self.faults.append(f"{asked.tag} ({dialect}, at {replica.program.name}) failed: {told.code}")
        return told.code or told.status

    async def _read_elsewhere(self) -> str:
        """Read an answer at one replica that another one gives; nobody of another tenant may."""
        one, other = self._two()
        async with self._http(1) as stranger, self._http() as http, self._begun(http, one) as (asked, id_):
            address = f"{other.url}{RESPONSES}/{id_}?stream=true"
            async with stranger.get(address) as answer:
                if answer.status not in NOT_NOW:
                    self.faults.append(f"{asked.tag}: another tenant gets {answer.status}")
            async with http.get(address) as answer:
                status, there = answer.status, await answer.text()
        if status != 200:
            return self._refused(asked, status, there)
        seen = _told(there, id_)
        if seen is not None and asked.told is not None and seen.text != asked.told.text:
            self.faults.append(f"{asked.tag}: read elsewhere it is {seen.text!r}, and here {asked.told.text!r}")
        return "read" if seen is not None else "broke off"

    async def _cancel_elsewhere(self) -> str:
        """Cancel an answer at one replica that another one gives."""
        one, other = self._two()
        async with (
            self._http() as http,
            self._begun(http, one) as (asked, id_),
            http.post(f"{other.url}{RESPONSES}/{id_}/cancel") as answer,
        ):
            status, there = answer.status, await answer.text()
        if status != 200:
            return self._refused(asked, status, there)
        if asked.told is not None and asked.told.status != json.loads(there)["status"]:
            self.faults.append(f"{asked.tag}: cancelled elsewhere: {there[:200]}, and it is {asked.told.status}")
        return "cancelled"

    def _two(self) -> tuple[Replica, Replica]:
        """Return two replicas; if there is but one, its workers may be two."""
        one, other = self._chance.sample([*self._place.replicas] * 2, 2)
        return one, other

    def _refused(self, asked: Asked, status: int, said: str) -> str:
        if status not in NOT_NOW:
            self.faults.append(f"{asked.tag}, elsewhere: {status} {said[:200]}")
        return f"elsewhere: {json.loads(said)['error']['message']}"

    def _http(self, tenant: int = 0) -> aiohttp.ClientSession:
        head = {"Authorization": f"Bearer {self._place.keys[tenant]}"}
        return aiohttp.ClientSession(headers=head, timeout=aiohttp.ClientTimeout(PATIENCE_S))

    @asynccontextmanager
    async def _begun(self, http: aiohttp.ClientSession, replica: Replica) -> AsyncIterator[tuple[Asked, str]]:
        """Have an answer begin; yield it and its id. At the end it has been read."""
        asked = self._noted(f"{next(self._new)} {SLOW}")
        body = body_of(RESPONSES, asked.question, model="small", stream=True, millrace={"tag": asked.tag})
        async with http.post(f"{replica.url}{RESPONSES}", json=body) as answer:
            if answer.status != 200:
                raise AssertionError(f"{asked.tag}: {answer.status} {await answer.text()}")
            head = b""
            while b"data: " not in head or not head.endswith(b"\n\n"):
                line = await answer.content.readline()
                if not line:
                    raise EOFError("it broke off")
                head += line
            id_ = json.loads(head[head.index(b"data: ") + 6 :])["response"]["id"]
            reading = asyncio.create_task(_rest(answer))
            try:
                yield asked, id_
            finally:
                asked.told = _told((head + await reading).decode(), id_)

    def _noted(self, question: str, model: str = "small") -> Asked:
        asked = Asked(f"ask-{next(self._numbers)}", question, model)
        self.asked.append(asked)
        return asked


async def _rest(answer: aiohttp.ClientResponse) -> bytes:
    """Return all that comes, also if it breaks off."""
    came = bytearray()
    with suppress(*LOST):
        async for piece in answer.content.iter_any():
            came += piece
    return bytes(came)


def _told(raw: str, id_: str) -> Told | None:
    """Return what a client knows of an answer; None if it broke off."""
    return of_responses(raw, id_) if any(f"event: {kind}" in raw for kind in TERMINALS) else None
