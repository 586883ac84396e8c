"""The dashboard's figures: every number is the one that the rows of the ledger have, counted by hand."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from millrace.accounts.dashboard.dashboard import Dashboard
from millrace.accounts.dashboard.filters import Filters, read
from millrace.accounts.dashboard.rollups import Ended, Rollups
from millrace.errors import MillraceError
from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.stores.past import SqlitePast
from millrace.stores.rollups import OTHERS, TAGS, StoredRollups
from millrace.types import Entry, Past, Selection, Status
from millrace.types.rollup import KEPT_S, Span
from millrace.wire.dashboard import Watch
from tests.accounts.test_real_rows import asked_in_many_ways, rows as all_rows
from tests.support import counted
from tests.support.clock import ManualClock
from tests.support.counted import Row, leaves
from tests.support.many_rows import LARGE_PRICE, SMALL, rows as made
from tests.support.waiting import PATIENCE_S

FIGURES = "/v1/dashboard/figures"
HEAD = {"object", "now", "since", "until", "step", "step_s", "tenant", "model", "tag"}


def differences(document: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return what of a document is not as counted: all of it is walked, and nothing is left over."""
    shown = {path: value for path, value in leaves(document).items() if path.split(".")[0] not in HEAD}
    wrong = [f"{path} is not counted" for path in shown.keys() - expected.keys()]
    wrong += [f"{path} is not shown" for path in expected.keys() - shown.keys()]
    return wrong + [
        f"{path}: {shown[path]}, not {value}"
        for path, value in expected.items()
        if path in shown and not is_same(path, shown[path], value)
    ]


def is_same(path: str, shown: Any, expected: Any) -> bool:
    """Whether a number is as counted: exactly, but percentiles to 1 % of whole microseconds, and what is divided."""
    if shown is None or expected is None or isinstance(expected, str):
        return bool(shown == expected)
    number, counted_as = float(shown), float(expected)
    if any(name in path for name in ("p50", "p95", "p99")):
        return abs(number - counted_as) <= 0.0101 * counted_as + 0.0011
    if any(name in path for name in ("cost_per_day", "cost_per_request", "per_second")):
        return math.isclose(number, counted_as, rel_tol=1e-6, abs_tol=2e-12)
    if "saved_ms" in path or path.endswith(("share", "rate")) or ".hit_rate." in path:
        return math.isclose(number, counted_as, rel_tol=1e-9)
    return number == counted_as


def expected(document: dict[str, Any], rows: Sequence[Row], past: Sequence[Past], tenant: str | None) -> dict[str, Any]:
    """Return what a document has to say of these rows; its filters are in it."""
    since, until, now = document["since"], document["until"], document["now"]
    tag, model = document["tag"], document["model"]

    def some(*, any_model: bool = False, any_tag: bool = False, any_tenant: bool = False) -> list[Row]:
        return [
            row
            for row in rows
            if since <= row.opened_at < until
            and (any_model or model in (None, row.model))
            and (any_tag or tag is None or row.tag == ("" if tag == "(none)" else tag))
            and (any_tenant or tenant in (None, row.tenant))
        ]

    chosen = some()
    ids = {row.request_id for row in chosen}
    first, last = (int(at // counted.DAY_S) * counted.DAY_S for at in (since, until - 1))
    found = {
        "rollup.behind": 0,
        "rollup.of": document["rollup"]["of"],
        **counted.figures(chosen, [row for row in past if row.request_id in ids], min(now, until) - since),
        **counted.series(chosen, since, until, document["step_s"]),
        **counted.parts(some(any_model=True), "models", lambda row: row.model, times=True),
        **counted.parts(some(any_tag=True), "tags", lambda row: str(row.tag)),
    }
    if tenant is not None:
        found |= counted.parts(chosen, "tenants", lambda row: str(row.tenant), always=[tenant])
    else:
        found |= counted.parts(some(any_tenant=True), "tenants", lambda row: str(row.tenant))
    days = sorted(
        {int(row.opened_at // counted.DAY_S) * counted.DAY_S for row in rows if _fits(row, tenant, tag, model)}
    )
    for at, day in enumerate(day for day in days if first <= day <= last):
        of_day = [row for row in rows if _fits(row, tenant, tag, model) and day <= row.opened_at < day + counted.DAY_S]
        cost, saved = sum(row.cost_nanodollars for row in of_day), sum(row.saved_nanodollars for row in of_day)
        found |= {
            f"days.{at}.day": f"{datetime.fromtimestamp(day, UTC):%Y-%m-%d}",
            f"days.{at}.requests": sum(row.is_request for row in of_day),
            f"days.{at}.cost_usd": counted.money(cost),
            f"days.{at}.would_have_cost_usd": counted.money(cost + saved),
            f"days.{at}.saved_usd": counted.money(saved),
        }
    return found


def _fits(row: Row, tenant: str | None, tag: str | None, model: str | None) -> bool:
    same_tag = tag is None or row.tag == ("" if tag == "(none)" else tag)
    return same_tag and model in (None, row.model) and tenant in (None, row.tenant)


async def test_every_number_is_that_of_the_ledger_of_a_real_server(tmp_path: Path) -> None:
    """Requests that ended in many ways; under each filter, over HTTP."""
    async with asked_in_many_ways(tmp_path) as running, aiohttp.ClientSession(running.url) as session:
        past = await all_rows(tmp_path)
        with sqlite3.connect(tmp_path / FILE) as connection:
            rows = counted.rows_of(connection)
        models = {row.model for row in rows}
        assert len(rows) >= 12
        assert len(models) >= 3
        queries = ["", "step=minute&since=90m", "step=day&since=7d", "tag=night", "tag=(none)"]
        for query in [*queries, *(f"model={model}" for model in models), "tag=night&model=nothing"]:
            async with session.get(f"{FIGURES}?{query}") as answer:
                document = await answer.json()
                assert answer.status == 200, document
            assert differences(document, expected(document, rows, past, "anonymous")) == [], query


NOW = 1_800_000_000.0  # in the middle of a day, and of a minute
TENANTS = ("acme", "beta")


class Kept:
    """A ledger on disk, and a dashboard of it."""

    def __init__(self, folder: Path, tags: int = TAGS) -> None:
        self.clock = ManualClock(NOW)
        self.folder = folder
        self.database = SqliteDatabase(str(folder))
        self.ledger = SqliteLedger(self.database, "one")
        self.store, self.past = StoredRollups(self.database, tags=tags), SqlitePast(self.database)
        self.rollups = Rollups(self.past, self.store, self.clock, lambda: LARGE_PRICE)
        nothing: Any = None
        self.dashboard = Dashboard(
            self.rollups,
            self.store,
            self.past,
            self.past,
            self.ledger.rows,
            nothing,
            nothing,
            nothing,
            lambda: LARGE_PRICE,
            lambda _: 0,
            self.clock,
        )

    async def write(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.ledger.settled(entry)
        await self.database.ready()

    async def figures(self, *, sees_all: bool = False, tenant: str = "acme", **given: Any) -> dict[str, Any]:
        await self.rollups.catch_up(30)
        filters = read(Watch(**given), tenant, sees_all=sees_all)
        found: dict[str, Any] = msgspec.to_builtins(await self.dashboard.figures(filters, sees_all=sees_all))
        return found

    async def counted(self) -> tuple[list[Row], list[Past]]:
        rows = await asyncio.to_thread(self.database.scan, counted.rows_of, within_s=30)
        return rows, await self.past.read(await self.past.ended(0.0), stories=True)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    opened = Kept(tmp_path)
    yield opened
    await asyncio.to_thread(opened.database.close)


@pytest.mark.parametrize(
    "given",
    [
        {"since": "7d"},
        {"since": "7d", "tag": "shop"},
        {"since": "7d", "tag": "(none)", "model": SMALL},
        {"since": "4h"},
        {"since": "30d", "model": "(cache)"},
        {"since": NOW - 90_000, "until": NOW - 7200, "step": "hour", "model": "(none)"},
        {"since": "7d", "tenant": "*"},
        {"since": "7d", "tenant": "beta", "tag": "night"},
        {"since": "7d", "tenant": "*", "tag": "night", "model": SMALL},
    ],
    ids=str,
)
async def test_every_number_is_that_of_the_ledger(kept: Kept, given: dict[str, Any]) -> None:
    """Requests of all kinds and two tenants, under all filters, also as an operator sees them."""
    sees_all = "tenant" in given
    await kept.write([*made(700, seed=1, since=NOW - 6 * Span.DAY, until=NOW - 60, tenants=TENANTS)])
    await kept.write([*made(300, seed=2, since=NOW - 3 * Span.HOUR, until=NOW - 1, tenants=TENANTS)])
    document = await kept.figures(sees_all=sees_all, **given)
    assert document["series"]["requests"]
    assert sum(document["series"]["requests"]) == document["total"]["requests"] > 0
    rows, past = await kept.counted()
    tenant = {"*": None}.get(given.get("tenant", ""), given.get("tenant", "acme"))
    if sees_all and tenant is not None:  # the list is of all whom an operator may choose
        document["tenants"] = [part for part in document["tenants"] if part["name"] == tenant]
    assert differences(document, expected(document, rows, past, tenant)) == []


async def test_a_list_goes_on_past_many_requests_of_others(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page looks at so many rows of all tenants; none of theirs is named, and the next page is found."""
    monkeypatch.setattr("millrace.accounts.dashboard.dashboard.WITHIN", 5)
    mine = [*made(4, seed=12, since=NOW - 3000, until=NOW - 2000, tenants=("acme",))]
    mine = [replace(entry, tenant="acme") for entry in mine]
    theirs = [replace(entry, tenant="beta") for entry in made(23, seed=13, since=NOW - 1000, until=NOW - 10)]
    await kept.write([*mine, *theirs])
    filters, got, after = read(Watch(), "acme", sees_all=False), list[str](), None
    for _ in range(10):
        page = await kept.dashboard.lines(filters, Selection(), 2, after)
        got += [line.id for line in page.data]
        after = page.last_id
        assert after not in {entry.request_id for entry in theirs}
        if not page.has_more:
            break
    assert got == [entry.request_id for entry in reversed(mine)]


async def test_a_request_counts_once_it_has_ended_and_only_once(kept: Kept) -> None:
    """However often its row is written, and in whichever process it ends."""
    entries = [*made(20, seed=3, since=NOW - 3000, until=NOW - 10)]
    first = replace(entries[0], status=Status.OPEN)
    kept.ledger.opened(first)
    await kept.write(entries[1:])
    assert (await kept.figures(tenant="anonymous"))["total"]["requests"] == len(clients(entries[1:]))
    kept.ledger.progressed(first)
    other = SqliteLedger(kept.database, "two")
    other.settled(entries[0])
    await kept.database.ready()
    for _ in range(2):
        assert (await kept.figures(tenant="anonymous"))["total"]["requests"] == len(clients(entries))


async def test_two_processes_add_each_row_up_once(kept: Kept) -> None:
    """In a handover both look at the same rows."""
    entries = [*made(1200, seed=4, since=NOW - 3000, until=NOW - 10)]
    await kept.write(entries)
    others = [Rollups(kept.past, StoredRollups(kept.database), kept.clock, lambda: LARGE_PRICE) for _ in range(3)]
    await asyncio.gather(*(each.catch_up(30) for each in (kept.rollups, *others)))
    assert (await kept.figures(tenant="anonymous"))["total"]["requests"] == len(clients(entries))


async def test_whoever_watches_at_any_replica_is_told_of_each_row_once(kept: Kept) -> None:
    """Whichever of them has added it up."""
    watched = [Rollups(kept.past, StoredRollups(kept.database), kept.clock, lambda: LARGE_PRICE) for _ in range(3)]
    told: list[list[str]] = [[], [], []]
    for each, ids in zip(watched, told, strict=True):
        each.watch(lambda ended, ids=ids: ids.extend(row.request_id for row in ended.rows))  # type: ignore[misc]
        await each.catch_up(30)
    entries = [*made(90, seed=23, since=NOW - 5, until=NOW)]
    for part in range(0, 90, 15):
        await kept.write(entries[part : part + 15])
        if part % 2:
            await asyncio.gather(*(each.catch_up(30) for each in watched))
        else:
            await watched[part // 30].catch_up(30)
    for each in watched * 2:
        await each.catch_up(30)
    assert told == [[entry.request_id for entry in entries]] * 3


async def test_one_that_has_handed_over_leaves_what_ends_to_the_next_process(kept: Kept) -> None:
    """Else those who watch the next one would not be told of what this one adds up."""
    told: list[Ended] = []
    following = Rollups(kept.past, StoredRollups(kept.database), kept.clock, lambda: LARGE_PRICE)
    following.watch(told.append)
    kept.rollups.hand_over()
    await kept.write([*made(30, seed=18, since=NOW - 5, until=NOW)])
    await asyncio.wait_for(kept.rollups.run(), PATIENCE_S)
    await kept.rollups.catch_up(10)
    await following.catch_up(30)
    assert sum(len(ended.rows) for ended in told) == 30


async def test_what_was_pruned_stays_in_the_figures(kept: Kept) -> None:
    await kept.write([*made(200, seed=5, since=NOW - Span.DAY, until=NOW - 10)])
    before = await kept.figures(tenant="anonymous")
    while await kept.ledger.rows.delete_before(NOW):
        pass
    after = await kept.figures(tenant="anonymous")
    assert before["total"] == after["total"]


async def test_what_fails_half_way_is_not_added_in_part(kept: Kept) -> None:
    """A cell that cannot be added to: what was added before it is undone, however often it is tried."""
    await kept.write([*made(50, seed=14, since=NOW - 3000, until=NOW - 10)])
    await kept.rollups.catch_up(60)
    damaged = "UPDATE rollups SET sums = x'c1' WHERE grouping = 'tenant'"
    await kept.database.commit(lambda connection: connection.execute(damaged), within_s=PATIENCE_S)
    await kept.write([*made(50, seed=15, since=NOW - 3000, until=NOW - 10)])
    query = "SELECT sum(requests), sum(cost_nanodollars) FROM rollups"

    async def cells() -> Any:
        return await asyncio.to_thread(
            kept.database.scan, lambda each: each.execute(query).fetchall(), within_s=PATIENCE_S
        )

    before = await cells()
    for _ in range(2):
        with pytest.raises(msgspec.DecodeError):
            await kept.rollups.step()
    assert await cells() == before


async def test_tags_that_clients_make_up_are_bounded(tmp_path: Path) -> None:
    """Beyond so many of a day they are one. Nothing is lost of the sum."""
    kept = Kept(tmp_path, tags=3)
    entries = [*made(100, seed=6, since=NOW - 3000, until=NOW - 10)]
    for number, begin in enumerate(range(0, 100, 10)):
        await kept.write([replace(entry, tag=f"made up {number}") for entry in entries[begin : begin + 10]])
        await kept.rollups.catch_up(60)
    untagged = [replace(entry, tag="") for entry in made(10, seed=16, since=NOW - 3000, until=NOW - 10)]
    await kept.write(untagged)
    document = await kept.figures(tenant="anonymous")
    asked = {part["name"]: part["requests"] for part in document["tags"]}
    assert asked.keys() == {"made up 0", "made up 1", "made up 2", OTHERS, "(none)"}
    assert asked["(none)"] == len(clients(untagged))
    assert sum(asked.values()) == document["total"]["requests"] == len(clients(entries)) + len(clients(untagged))
    await asyncio.to_thread(kept.database.close)


async def test_old_cells_are_forgotten_and_days_stay(kept: Kept) -> None:
    entries = [*made(50, seed=7, since=NOW - 3000, until=NOW - 10)]
    await kept.write(entries)
    await kept.rollups.catch_up(60)
    kept.clock.now += KEPT_S[Span.HOUR] + Span.DAY
    kept.store.forget(kept.clock())
    await kept.database.ready()
    spans = await asyncio.to_thread(
        kept.database.scan,
        lambda connection: connection.execute("SELECT DISTINCT span FROM rollups").fetchall(),
        within_s=PATIENCE_S,
    )
    assert spans == [(Span.DAY,)]
    document = await kept.figures(tenant="anonymous", since="100d")
    assert document["total"]["requests"] == sum(
        entry.tenant == "anonymous" for entry in made(50, seed=7, since=0, until=1)
    )


@pytest.mark.parametrize(("step", "since"), [("minute", "2d"), ("hour", "60d"), ("day", "400d")])
async def test_the_longest_window_has_all_of_its_first_step(kept: Kept, step: str, since: str) -> None:
    """It is widened to whole steps, so it begins before what may be asked for."""
    kept.clock.now = now = NOW + 20 * Span.HOUR + 45 * Span.MINUTE + 50
    begin = read(Watch(since=since, step=step), "acme", sees_all=False).window(now).since
    (row,) = made(1, seed=17, since=begin + 1, until=now)
    await kept.write([replace(row, tenant="acme")])
    await kept.rollups.catch_up(60)
    kept.store.forget(now)
    await kept.database.ready()
    document = await kept.figures(step=step, since=since)
    assert (document["series"]["at"][0], document["series"]["requests"][0]) == (begin, 1)


async def test_what_another_version_added_up_is_added_up_anew(kept: Kept) -> None:
    await kept.write([*made(50, seed=10, since=NOW - 3000, until=NOW - 10)])
    before = await kept.figures(tenant="anonymous")
    other = StoredRollups(kept.database)
    assert await other.through(2) == 0
    assert await other.through(1) == 0
    anew = Rollups(kept.past, other, kept.clock, lambda: LARGE_PRICE)
    await anew.catch_up(30)
    assert (await kept.figures(tenant="anonymous"))["total"] == before["total"]


async def test_a_damaged_row_hides_no_other(kept: Kept) -> None:
    entries = [*made(50, seed=11, since=NOW - 3000, until=NOW - 10)]
    await kept.write(entries)
    damage = "UPDATE entries SET calls = '[{', story = '{' WHERE request_id = ?"
    mine = clients(entries)
    await kept.database.commit(
        lambda connection: connection.execute(damage, (mine[0].request_id,)), within_s=PATIENCE_S
    )
    assert (await kept.figures(tenant="anonymous"))["total"]["requests"] == len(mine) - 1


async def test_who_watches_is_told_of_what_has_just_ended_alone(kept: Kept) -> None:
    """Not of a ledger that was there before, however long it takes to add that up."""
    told: list[Ended] = []
    kept.rollups.watch(told.append)
    await kept.write([*made(600, seed=8, since=NOW - 9 * Span.DAY, until=NOW - Span.DAY)])
    await kept.rollups.catch_up(60)
    assert not any(ended.rows for ended in told)
    await kept.write([*made(30, seed=9, since=NOW - 5, until=NOW)])
    await kept.rollups.catch_up(60)
    assert sum(len(ended.rows) for ended in told) == 30
    kept.rollups.unwatch(told.append)
    assert kept.rollups.watchers == 0


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": -1}, "since"),
        ({"until": "x"}, "until"),
        ({"since": "1h", "until": "2h"}, "since"),
        ({"since": NOW + 1, "until": NOW + 7200}, "since"),
        ({"step": "week"}, "step"),
        ({"step": "minute", "since": "7d"}, "step"),
        ({"since": "9999d"}, "since"),
        ({"tag": "x" * 201}, "tag"),
    ],
    ids=str,
)
def test_a_bad_filter_is_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(MillraceError) as refused:
        read(Watch(**given), "acme", sees_all=False).window(NOW)
    assert (refused.value.code, refused.value.param) == ("invalid_request", param)


def test_a_window_ends_now_at_the_latest() -> None:
    """One that went on for thousands of years would have as many steps, each of which takes memory."""
    for step in ("minute", "hour", "day"):
        given = Watch(since="2h", until=99_999_999_999, step=step)
        window = read(given, "acme", sees_all=False).window(NOW)
        assert NOW <= window.until < NOW + window.span


def test_another_tenant_is_forbidden_and_an_operator_sees_all() -> None:
    for tenant in ("beta", "*"):
        with pytest.raises(MillraceError) as refused:
            read(Watch(tenant=tenant), "acme", sees_all=False)
        assert (refused.value.code, refused.value.param) == ("forbidden", "tenant")
    assert read(Watch(tenant="*"), "acme", sees_all=True).tenant is None
    assert read(Watch(), "acme", sees_all=True) == Filters(since=86_400.0, tenant="acme")


def clients(entries: Sequence[Entry]) -> list[Entry]:
    """Return those that are a client's."""
    return [entry for entry in entries if entry.tenant == "anonymous"]
