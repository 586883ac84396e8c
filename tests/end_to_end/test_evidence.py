"""Evidence through the wire: what is asked again, who opts out, and a judge that never answers."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.access import keys
from millrace.assembly import evidence as wiring, key_store
from millrace.principal import Role
from millrace.stores.database import FILE
from millrace.types import EVIDENCE_TENANT, Says
from tests.support.processes import server_process
from tests.support.server import Running, Start, process_of
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import check_response, wire_client

BOOKED = "SELECT count(*) FROM entries WHERE tenant = '(evidence)'"


class SameJudge:
    """Takes all answers for the same."""

    name = "agreeable"

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        return Says.SAME


class HungJudge:
    """Never answers."""

    name = "hung"

    def __init__(self) -> None:
        self.asked = 0

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        self.asked += 1
        await asyncio.Event().wait()
        return Says.UNSURE


def sampling(**evidence: Any) -> Any:
    def change(configuration: dict[str, Any]) -> None:
        configuration["evidence"] = {"judged": True, "hit_share": 1, "small_share": 1, "large_share": 1} | evidence

    return change


def judged_by(monkeypatch: pytest.MonkeyPatch, judge: Any) -> None:
    monkeypatch.setattr(wiring, "judges_of", lambda *_: [judge])


@asynccontextmanager
async def told(start: Start, **evidence: Any) -> AsyncIterator[Running]:
    async with start(sampling(**evidence)) as running:
        yield running


async def rows(running: Running, query: str) -> list[tuple[Any, ...]]:
    process = process_of(running)
    database: Any = process.backlog
    found: list[tuple[Any, ...]] = await database.commit(
        lambda each: each.execute(query).fetchall(), within_s=PATIENCE_S
    )
    return found


async def test_a_small_answer_is_asked_again_and_judged(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the operator's cost: the tenant's own row and totals are as without evidence."""
    judged_by(monkeypatch, SameJudge())
    async with told(start) as running, wire_client(running.ws_url) as client:
        events = await client.ask("How deep is the mill pond?", model="small")
        check_response(events)
        await until(lambda: running.large.stats.started == 1)
        async with asyncio.timeout(PATIENCE_S):
            while not await rows(running, "SELECT 1 FROM judged"):  # noqa: ASYNC110 - the disk tells nobody
                await asyncio.sleep(0.01)
        ((lever, said),) = await rows(running, "SELECT lever, opinions FROM judged")
        booked = await rows(running, BOOKED)
        stats = await process_of(running).cache.stats(None)
    assert lever == "small"
    assert "agreeable" in said
    assert booked == [(1,)]
    assert EVIDENCE_TENANT not in {each.tenant for each in stats}


async def test_a_request_that_opts_out_is_not_asked_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_by(monkeypatch, SameJudge())
    async with told(start) as running, wire_client(running.ws_url) as client:
        await client.ask("How deep is the mill pond?", model="small", millrace={"evidence": False})
        await client.ask("How wide is it?", model="small", metadata={"millrace.evidence": "false"})
        await client.ask("How old is it?", model="small", store=True)
        await client.ask("How far is it?", model="small")
        await until(lambda: running.large.stats.started == 1)
        assert running.small.stats.started == 4
        assert await rows(running, BOOKED) == [(1,)]


async def test_a_key_opts_out_for_all_its_requests(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(monkeypatch, SameJudge())
    made = [keys.make(tenant="acme", role=Role.USE, evidence=wants, created_at=1.0) for wants in (False, True)]
    async with key_store(str(tmp_path)) as store:
        for key, _ in made:
            await store.add(key)

    def change(configuration: dict[str, Any]) -> None:
        sampling()(configuration)
        configuration["server"] |= {"data_dir": str(tmp_path)}

    async with start(change) as running:
        for number, (_, text) in enumerate(made):
            header = {"Authorization": f"Bearer {text}"}
            async with wire_client(running.ws_url, additional_headers=header) as client:
                await client.ask(f"How deep is pond {number}?", model="small")
        await until(lambda: running.large.stats.started == 1)
        assert running.small.stats.started == 2


async def test_with_every_judge_hung_requests_are_served_as_before(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the server ends."""
    hung = HungJudge()
    judged_by(monkeypatch, hung)
    async with told(start) as running, wire_client(running.ws_url) as client:
        for number in range(30):
            check_response(await client.ask(f"How deep is pond {number}?", model="small"))
        await until(lambda: hung.asked > 0)
        check_response(await client.ask("How deep is the last one?", model="small"))
        assert await rows(running, "SELECT count(*) FROM judged") == [(0,)]


def dollars_of(folder: Path) -> Decimal:
    """Return what evidence has cost by its rows."""
    with closing(sqlite3.connect(folder / FILE)) as file:
        ((nanodollars,),) = file.execute(
            "SELECT coalesce(sum(cost_nanodollars), 0) FROM entries WHERE tenant = ?", (EVIDENCE_TENANT,)
        )
    return Decimal(nanodollars) / 10**9


async def test_a_killed_server_has_spent_what_it_booked(tmp_path: Path) -> None:
    """With kill -9 while an answer is asked for again: the cap of the day holds over the restart."""
    most = Decimal("0.009")  # buys one answer and not two
    evidence = f'small_share = 1\ndollars_per_day = "{most}"\njudged = true'
    booked = []
    for number in range(2):
        async with server_process(tmp_path, 1.0, evidence) as server:
            async with wire_client(server.ws_url) as client:
                asked = f"How deep is pond {number}? [tokens.large=100000] [rate.large=20] [tokens.small=5]"
                await client.ask(asked, model="small")
                if number == 0:
                    await until(lambda: dollars_of(tmp_path) > 0)
                else:
                    await asyncio.sleep(1.0)  # in which it would ask
            server.stop(signal.SIGKILL)
            await server.exited()
        booked.append(dollars_of(tmp_path))
    assert most / 2 < booked[0] <= most
    assert booked[1] <= most


async def test_a_server_that_drains_ends_what_it_asks_again_and_settles_it(tmp_path: Path) -> None:
    """At once: the next process has the day's money for it."""
    async with server_process(tmp_path, 10.0, "small_share = 1\njudged = true") as server:
        async with wire_client(server.ws_url) as client:
            await client.ask("How deep is it? [tokens.large=100000] [rate.large=20] [tokens.small=5]", model="small")
            await until(lambda: dollars_of(tmp_path) > 0)
        server.stop()
        await server.exited()
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        rows = file.execute("SELECT status, source FROM entries WHERE tenant = ?", (EVIDENCE_TENANT,)).fetchall()
    assert [status for status, _ in rows] == ["cancelled"]
    assert 0 < dollars_of(tmp_path) < Decimal("0.01")


async def test_what_people_say_of_a_hit_is_stored_as_a_verdict(start: Start) -> None:
    """Taken with no probability, so that it is in no rate."""
    kept = "SELECT probability, opinions FROM judged WHERE lever = 'semantic'"
    async with told(start, hit_share=0, small_share=0, large_share=0) as running, wire_client(running.ws_url) as client:
        await client.ask("How do I reset my router?")
        hit = (await client.ask("How can I reset my router?"))[-1]["response"]
        assert hit["metadata"]["millrace.cache"] == "semantic"
        address = f"{running.url}/v1/responses/{hit['id']}/feedback"
        async with aiohttp.ClientSession() as session, session.post(address, json={"rating": "up"}) as answer:
            assert answer.status == 200
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await rows(running, kept)):  # noqa: ASYNC110 - the disk tells nobody
                await asyncio.sleep(0.01)
    assert found == [(0.0, '[["feedback","same",1.0]]')]


@pytest.mark.parametrize("path", ["chat/completions", "messages"])
@pytest.mark.parametrize("opts_out", [True, False])
async def test_a_request_opts_out_in_each_dialect(
    start: Start, monkeypatch: pytest.MonkeyPatch, path: str, opts_out: bool
) -> None:
    judged_by(monkeypatch, SameJudge())
    body = {
        "model": "small",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "How deep is the mill pond?"}],
        "millrace": {"evidence": not opts_out},
    }
    async with told(start) as running, wire_client(running.ws_url):
        async with aiohttp.ClientSession() as session, session.post(f"{running.url}/v1/{path}", json=body) as answer:
            assert answer.status == 200
        evidence = process_of(running).funnel.current.sampling.evidence
        assert evidence is not None
        assert evidence.waiting == (not opts_out)
