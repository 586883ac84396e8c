"""`millrace router`: what it shows of what was learned, and what freezes it or goes back."""

import asyncio
import time
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result
from msgspec.structs import replace

from millrace.__main__ import main
from millrace.funnel.routing.promises import Promised, Promises
from millrace.funnel.routing.router import Router
from millrace.stores.database import SqliteDatabase
from millrace.stores.router import SNAPSHOT_S, SqliteRouter
from millrace.types import Judged, Lever, Tier, Verdict
from millrace.wire.router import RouterReport
from tests.support.clock import ManualClock
from tests.support.judged import judged
from tests.support.scripted_models import request


def command(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(main, ["router", *arguments])


async def shown(folder: Path, *arguments: str) -> RouterReport:
    ended = await asyncio.to_thread(command, "show", "--json", "--data-dir", str(folder), *arguments)
    assert ended.exit_code == 0, ended.output
    return msgspec.json.decode(ended.stdout, type=RouterReport)


async def kept(folder: Path, requests: int = 40, tenant: str = "acme") -> None:
    """Have a router learn from requests of a tenant, of which each tenth was asked again, and keep it twice."""
    database, clock = SqliteDatabase(str(folder)), ManualClock(time.time() - SNAPSHOT_S)
    store = SqliteRouter(database, wall=clock)
    await database.ready()
    router = Router(clock, Promises(Promised(), clock))
    await router.learning.begin(store)
    for half in range(2):
        pairs: list[Judged] = []
        for number in range(requests // 2):
            asked = request(id=f"resp_{half}_{number}", tenant=tenant)
            advice = router.advise(asked)
            router.judged(asked, advice, [(Tier.SMALL, Verdict())])
            if number % 10 == 0:
                says = "different" if number == 0 else "same"
                pair = judged(f"{half}_{number}", says, lever=Lever.SMALL, tenant=tenant, taken_at=clock.now)
                pairs.append(replace(pair, sample=replace(pair.sample, prompt_features=advice.features)))
        router.learn(pairs)
        await router.learning.end(store)
        clock.now += SNAPSHOT_S
    await asyncio.to_thread(database.close)


async def test_it_shows_what_was_learned_and_from_how_many_labels(tmp_path: Path) -> None:
    await kept(tmp_path)
    ended = await asyncio.to_thread(command, "show", "--data-dir", str(tmp_path))
    assert ended.exit_code == 0, ended.output
    assert "acme: the router stays with the length of the question first: 28 labels of 300." in ended.stdout
    assert "Small first saves: not known yet." in ended.stdout
    assert "acme, model 'auto': small first: nothing is promised (4 judged pairs)" in ended.stdout
    (tenant,) = (await shown(tmp_path)).tenants
    assert {each.source: each.labels for each in tenant.sources} == {"shadow": 4, "check": 40, "feedback": 0}
    (place,) = tenant.models
    assert [each.large_share for each in place.outlook] == [tenth / 10 for tenth in range(11)]
    assert (place.outlook[0].quality, place.outlook[-1].quality) == (0.5, 1.0)
    assert place.outlook[0].lower < 0.5 < place.outlook[0].upper
    assert place.outlook[-1].lower == 1.0


async def test_it_is_of_one_tenant_where_one_is_named(tmp_path: Path) -> None:
    await kept(tmp_path)
    await kept(tmp_path, tenant="other")
    assert [each.tenant for each in (await shown(tmp_path)).tenants] == ["acme", "other"]
    assert [each.tenant for each in (await shown(tmp_path, "--tenant", "other")).tenants] == ["other"]


async def test_a_freeze_lasts_until_it_is_lifted(tmp_path: Path) -> None:
    await kept(tmp_path)
    folder = ("--data-dir", str(tmp_path))
    said = await asyncio.to_thread(command, "freeze", *folder)
    assert said.stdout == "all tenants: nothing is learned from now on.\n"
    assert (await shown(tmp_path)).tenants[0].frozen
    again = await asyncio.to_thread(command, "freeze", *folder)
    assert "already" in again.stdout
    thawed = await asyncio.to_thread(command, "thaw", *folder)
    assert thawed.stdout == "all tenants: the router learns again.\n"
    assert not (await shown(tmp_path)).tenants[0].frozen


async def test_an_earlier_snapshot_is_gone_back_to(tmp_path: Path) -> None:
    """It is a new one then, and the one that was in use stays."""
    await kept(tmp_path)
    (tenant,) = (await shown(tmp_path)).tenants
    assert [each.number for each in tenant.snapshots] == [2, 1]
    ended = await asyncio.to_thread(command, "restore", "1", "--tenant", "acme", "--data-dir", str(tmp_path))
    assert ended.stdout == "acme: restored from 1, as 3.\n"
    (restored,) = (await shown(tmp_path)).tenants
    assert [(each.number, each.note) for each in restored.snapshots] == [(3, "restored from 1"), (2, ""), (1, "")]
    assert restored.labels == tenant.snapshots[1].labels < tenant.labels
    wrong = await asyncio.to_thread(command, "restore", "9", "--tenant", "acme", "--data-dir", str(tmp_path))
    assert wrong.exit_code == 1
    assert "9: no snapshot of 'acme' that can be restored" in wrong.stderr


def test_a_folder_without_a_database_is_refused() -> None:
    assert "GET /v1/router" in command("show", "--data-dir", ":memory:").stderr
