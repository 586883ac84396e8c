"""The walls between tenants: whoever guesses ids of another's finds nothing, and cannot tell them from those of nobody.

`MILLRACE_PROBES=10000` makes that many guesses.
"""

import asyncio
import itertools
import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from millrace.wire import limits
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import Event, WireClient, check_response, wire_client

PROBES = int(os.environ.get("MILLRACE_PROBES", "300"))
A_CONNECTION = 200  # guesses; a peer that sends hardly anything else is thrown out
APP = "https://app.example"
WAITS = "wait [ttft=900]"
WAYS = ("cancel", "resume", "go_on", "http_go_on", "refer", "asked")  # of a prober
RUNNING = 6  # of both


@dataclass(slots=True)
class Tenant:
    """One who asks, and what they have."""

    running: Running
    key: str
    ids: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def connect(self, **options: Any) -> Any:
        return wire_client(self.running.ws_url, additional_headers=self.headers, **options)

    def http(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.running.url, headers=self.headers)

    async def post(self, body: Event, path: str = "/v1/responses") -> Event:
        async with self.http() as http, http.post(path, json=body) as answer:
            document: Event = await answer.json()
            return document


@pytest.fixture
async def tenants(start: Start, tmp_path: Path) -> AsyncIterator[tuple[Tenant, Tenant, Tenant]]:
    """Yield a tenant, a second key of the same, and another tenant."""
    async with key_store(str(tmp_path)) as store:
        texts = []
        for tenant in ("acme", "acme", "other"):
            key, text = keys.make(tenant=tenant, role=Role.USE, created_at=1.0)
            await store.add(key)
            texts.append(text)

    def guarded(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"data_dir": str(tmp_path), "origins": [APP]}
        configuration["models"]["small"]["first_token_timeout_s"] = 900

    async with start(guarded) as running:
        acme, colleague, other = (Tenant(running, text) for text in texts)
        yield acme, colleague, other


@asynccontextmanager
async def busy(tenant: Tenant, name: str) -> AsyncIterator[None]:
    """Have responses of every kind: running, detached, told over HTTP, ended, stored on disk, broken."""
    ask = {"on_disconnect": "detach", "idempotency_key": "the key", "cache": "off"}
    async with tenant.connect() as gone:
        await gone.create(f"{name} {WAITS}", millrace=ask)
        tenant.ids.append((await gone.next())["response"]["id"])
        gone.connection.transport.abort()
    async with tenant.connect() as client, tenant.http() as http:
        for fields in ({"store": True}, {"store": False}, {}):
            tenant.ids.append(check_response(await client.ask(f"{name} [tokens=4]", **fields))["id"])
        tenant.ids.append((await client.ask(f"{name} [fault=error]", store=True))[-1]["response"]["id"])
        await client.create(f"{name} {WAITS}", stream_id="a")
        tenant.ids.append((await client.next())["response"]["id"])
        async with http.post("/v1/responses", json={"input": f"{name} http {WAITS}", "stream": True}) as streamed:
            tenant.ids.append(streamed.headers["X-Request-Id"])
            yield
        async with http.post(f"/v1/responses/{tenant.ids[0]}/cancel") as cancelled:
            assert cancelled.status == 200


class Prober:
    """Tries one id in every way there is; returns what it was told, without the id."""

    def __init__(self, client: WireClient, http: aiohttp.ClientSession, epoch: str) -> None:
        self._talk = client
        self._http = http
        self._epoch = epoch
        self.verbs = itertools.cycle(
            [
                ("POST", "/v1/responses/{}/cancel"),
                ("GET", "/v1/responses/{}"),
                ("GET", "/v1/responses/{}/input_items"),
                ("GET", "/v1/responses/{}?stream=true"),
                ("GET", "/v1/responses/{}?stream=true&starting_after=1"),
                ("DELETE", "/v1/responses/{}"),
            ]
        )

    async def cancel(self, guess: str) -> str:
        return await self._told(guess, {"type": "response.cancel", "response_id": guess})

    async def resume(self, guess: str) -> str:
        asked = {"type": "millrace.resume", "response_id": guess, "after": 1, "epoch": self._epoch}
        return await self._told(guess, asked)

    async def go_on(self, guess: str) -> str:
        return await self._told(guess, {"type": "response.create", "input": "go on", "previous_response_id": guess})

    async def http_go_on(self, guess: str) -> str:
        body = {"input": "go on", "previous_response_id": guess}
        async with self._http.post("/v1/responses", json=body) as answer:
            return f"{answer.status} {(await answer.text()).replace(guess, '#')}"

    async def refer(self, guess: str) -> str:
        item_id = guess.replace("resp_", "msg_")
        asked = [{"role": "user", "content": "go on"}, {"type": "item_reference", "id": item_id}]
        return await self._told(item_id, {"type": "response.create", "input": asked})

    async def asked(self, guess: str) -> str:
        method, path = next(self.verbs)
        async with self._http.request(method, path.format(guess)) as answer:
            return f"{method} {path} {answer.status} {(await answer.text()).replace(guess, '#')}"

    async def _told(self, guess: str, frame: Event) -> str:
        await self._talk.send(frame)
        async with asyncio.timeout(PATIENCE_S):
            return str(await self._talk.connection.recv()).replace(guess, "#")


def guesses(ids: list[str]) -> Iterator[str]:
    """Return ids: another's own ones, those that are nearly theirs, those of nobody."""
    rng = random.Random(4)
    while True:
        for real in ids:
            at = rng.randrange(5, len(real))
            digit = rng.choice([digit for digit in "0123456789abcdef" if digit != real[at]])
            yield from (real, real[:at] + digit + real[at + 1 :], f"resp_{rng.getrandbits(128):032x}")


@pytest.mark.timeout(60 if PROBES < 1000 else 900)
async def test_guessing_ids_finds_nothing(
    tenants: tuple[Tenant, Tenant, Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tenants probe each other: cancel, resume, continue, GET, DELETE. An id of another's is one of nobody's."""
    monkeypatch.setattr(limits, "DETACHED_S", 900.0)
    acme, _, other = tenants
    async with busy(acme, "acme"), busy(other, "other"):
        await until(lambda: acme.running.small.stats.running == RUNNING)
        calls = acme.running.calls
        by_way: dict[str, set[str]] = {}
        for prober, victim in ((acme, other), (other, acme)):
            ids, ways = guesses(victim.ids), itertools.cycle(WAYS)
            left = PROBES // 2
            while left > 0:
                async with prober.connect(negotiated=False) as client, prober.http() as http:
                    async with http.get("/healthz") as health:
                        probing = Prober(client, http, (await health.json())["epoch"])
                    for guess in itertools.islice(ids, min(left, A_CONNECTION)):
                        way = next(ways)
                        answer = await getattr(probing, way)(guess)
                        name = answer.partition(" {")[0] if way == "asked" else way
                        by_way.setdefault(name, set()).add(answer)
                        left -= 1
        assert len(by_way) == len(WAYS) - 1 + 6
        assert {name: len(answers) for name, answers in by_way.items()} == dict.fromkeys(by_way, 1)
        assert all("_not_found" in str(answers) or "resume_expired" in str(answers) for answers in by_way.values())
        assert acme.running.calls == calls
        assert acme.running.small.stats.running == RUNNING  # nobody's was stopped
        for tenant in (acme, other):
            await still_there(tenant)


async def still_there(tenant: Tenant) -> None:
    async with tenant.http() as http:
        detached, stored, dropped, kept, broken, running, streamed = tenant.ids
        for response_id, status in (
            (detached, "in_progress"),
            (stored, "completed"),
            (kept, "completed"),
            (broken, "failed"),
            (running, "in_progress"),
            (streamed, "in_progress"),
        ):
            async with http.get(f"/v1/responses/{response_id}") as answer:
                assert (await answer.json())["status"] == status
        async with http.get(f"/v1/responses/{dropped}") as answer:
            assert answer.status == 404


async def test_an_idempotency_key_is_of_one_key_alone(tenants: tuple[Tenant, Tenant, Tenant]) -> None:
    """The same words under the same idempotency key: attached for the same key, another response for all others."""
    body = {"input": "How deep is it?", "millrace": {"idempotency_key": "k", "cache": "off"}}
    other_body = {"input": "How wide is it?", "millrace": {"idempotency_key": "k", "cache": "off"}}
    acme, colleague, other = tenants
    ids = [(await tenant.post(body))["id"] for tenant in (acme, acme, colleague, other)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    async with other.connect() as client:
        assert (await client.ask(**body))[-1]["response"]["id"] == ids[3]
    assert (await acme.post(other_body))["error"]["code"] == "idempotency_mismatch"
    assert acme.running.calls == 3


async def test_a_tenants_keys_share_what_is_theirs(tenants: tuple[Tenant, Tenant, Tenant]) -> None:
    """Responses are the tenant's: another key of theirs reads, continues, resumes and cancels."""
    acme, colleague, _ = tenants
    async with acme.connect() as first, colleague.connect() as second, colleague.http() as http:
        ended = check_response(await first.ask("How deep is it?"))["id"]
        assert check_response(await second.ask("And now?", previous_response_id=ended))["status"] == "completed"
        async with http.get(f"/v1/responses/{ended}") as answer:
            assert answer.status == 200
        await first.create(WAITS)
        running = (await first.next())["response"]["id"]
        await second.send({"type": "response.cancel", "response_id": running})
        assert (await first.until("response.incomplete"))[-1]["response"]["status"] == "cancelled"


@pytest.mark.parametrize("again", ["How do I reset my router?", "How can I reset my router?"])
async def test_no_answer_of_another_is_served(tenants: tuple[Tenant, Tenant, Tenant], again: str) -> None:
    """Neither from a cache nor by meaning; the tenant's other key gets it."""
    acme, colleague, other = tenants
    await acme.post({"input": "How do I reset my router?"})
    for tenant, cache in ((other, {"miss"}), (colleague, {"exact", "semantic"})):
        assert (await tenant.post({"input": again}))["metadata"]["millrace.cache"] in cache


async def test_nobody_rides_along_with_another(tenants: tuple[Tenant, Tenant, Tenant]) -> None:
    """The same question in flight at once: one call for a tenant."""
    asked = {"input": "Why do rivers bend? [ttft=0.3]"}
    acme, colleague, other = tenants
    answers = await asyncio.gather(*(tenant.post(asked) for tenant in (acme, colleague, other)))
    assert sorted(answer["metadata"]["millrace.cache"] for answer in answers) == ["joined", "miss", "miss"]
    assert answers[2]["metadata"]["millrace.cache"] == "miss"
    assert acme.running.calls == 2


async def test_a_ticket_is_its_owner(tenants: tuple[Tenant, Tenant, Tenant]) -> None:
    """Who comes with a ticket of one tenant finds nothing of the other's."""
    acme, _, other = tenants
    theirs = (await acme.post({"input": "How deep is it?"}))["id"]
    mine = (await other.post({"input": "How deep is it?"}))["id"]
    ticket = (await other.post({"origin": APP}, "/v1/tickets"))["ticket"]
    offered = [Subprotocol("millrace.v1"), Subprotocol(f"millrace.ticket.{ticket}")]
    url = f"{other.running.ws_url}/v1/responses"
    async with connect(
        url, subprotocols=offered, origin=Origin(APP), compression=None, open_timeout=PATIENCE_S
    ) as connection:
        client = WireClient(connection)
        epoch = (await client.next())["epoch"]
        for response_id, code in ((theirs, "resume_expired"), (mine, "resume_gap")):  # one was told, over HTTP
            await client.send({"type": "millrace.resume", "response_id": response_id, "epoch": epoch})
            assert (await client.next())["error"]["code"] == code
        assert (await client.ask("go on", previous_response_id=theirs))[-1]["error"]["code"].startswith("previous")
        check_response(await client.ask("go on", previous_response_id=mine), negotiated=True)


async def test_a_detached_response_keeps_its_tenant(tenants: tuple[Tenant, Tenant, Tenant]) -> None:
    """It is found by its owner only, while it runs and nobody listens."""
    acme, _, other = tenants
    async with acme.connect() as client:
        await client.create("go on [tokens=40] [rate=100]", millrace={"on_disconnect": "detach"})
        response_id = (await client.next())["response"]["id"]
        client.connection.transport.abort()
    async with other.connect() as client, acme.http() as http:
        await client.send({"type": "response.cancel", "response_id": response_id})
        assert (await client.next())["error"]["code"] == "response_not_found"
        async with http.get(f"/v1/responses/{response_id}?stream=true") as by_way:
            events = [json.loads(line[6:]) async for line in by_way.content if line.startswith(b"data: ")]
    assert check_response(events)["status"] == "completed"
    await until(lambda: acme.running.small.stats.finished == 1)
