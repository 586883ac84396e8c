"""The ledger as it is read: whole rows, in the order of their ends, none missed, and old ones deleted."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from millrace.pruning import PRUNE_EVERY, STEP
from millrace.stores import ledger_rows
from millrace.stores.ledger import DAY_S, SqliteLedger
from millrace.stores.past import SqlitePast
from millrace.types import NO_STORY, Near, Outcome, Selection, Shape, Status, Story, Usage
from tests.support.bills import LARGE, REQUEST, SMALL, USAGE, Store, StubAttempt, call, settle
from tests.support.clock import ManualClock

ALL = Selection()
SHAPE = Shape(model="auto", delivery="prefix", cache="on", messages=(("user", 2),), temperature=0.0, checks=())
STORY = Story(near=(Near(entry_id="ans_1", similarity=0.5, log_odds=0.0),), missed="names differ", route="small first")


def ended(store: Store, number: int, status: Status = Status.COMPLETED, **fields: str) -> None:
    settle(store.bill(replace(REQUEST, id=f"resp_{number}", **fields)), status=status)


async def ids(store: Store, selection: Selection = ALL) -> list[str]:
    await store.database.ready()
    found, _ = await store.ledger.rows.latest(selection, 100)
    return [row.request_id for row in found]


async def test_a_row_is_read_as_it_was_written(store: Store) -> None:
    """With each call's price and times since the start of the request, its story and its shape."""
    bill = store.bill(replace(REQUEST, user="ann", tag="night", session="ses_1"))
    draft = call(bill, SMALL, StubAttempt(words=3), Outcome.REVISED)
    draft.began_at, draft.spoke_at, draft.ended_at = 100.0, 100.25, 100.5
    used = replace(USAGE, cached_input_tokens=4, cache_write_tokens=3, cache_write_1h_tokens=2, reasoning_tokens=1)
    dear = StubAttempt(usage=used)
    dear.service_tier = "priority"
    shown = call(bill, replace(LARGE, tier_prices={"priority": SMALL.price}), dear)
    shown.began_at = 100.5
    written = settle(bill, statement=bill.statement(shown.usage), story=STORY, shape=SHAPE, began_at=99.0)
    await store.database.ready()
    found = await store.ledger.rows.find("resp_1")
    assert found is not None
    number, row = found
    first, second = row.statement.charges
    assert (first.began_at, first.spoke_at, first.ended_at) == (1.0, 1.25, 1.5)
    assert (second.began_at, second.spoke_at, second.ended_at) == (1.5, None, None)
    assert replace(first, began_at=100.0, spoke_at=100.25, ended_at=100.5) == written.statement.charges[0]
    assert replace(second, began_at=100.5) == written.statement.charges[1]
    assert (second.price, second.standard) == (SMALL.price, LARGE.price)
    assert (row.story, row.shape, row.baseline) == (STORY, SHAPE, LARGE.price)
    assert (row.user, row.tag, row.session, row.statement.cost) == ("ann", "night", "ses_1", written.statement.cost)
    assert number > 0


async def test_who_follows_misses_none_however_late_it_ends(tmp_path: Path) -> None:
    """Opened early and ended late, by another process, or closed as killed: each is shown once, when it ends."""
    store = Store(str(tmp_path), "one")
    late, lost = store.bill(replace(REQUEST, id="late")), store.bill(replace(REQUEST, id="lost"))
    for bill in (late, lost):
        call(bill, SMALL, StubAttempt(usage=USAGE), Outcome.RUNNING)
    ended(store, 1)
    await store.database.ready()
    rows = store.ledger.rows
    found, number = await rows.latest(ALL, 10)
    assert [row.request_id for row in found] == ["resp_1"]
    other = Store(str(tmp_path), "two")
    ended(other, 2)
    await other.database.ready()
    found, number = await rows.after(number, ALL, 10)
    assert [row.request_id for row in found] == ["resp_2"]
    settle(late)
    await store.database.ready()
    found, number = await rows.after(number, ALL, 10)
    assert [row.request_id for row in found] == ["late"]
    other.ledger.close_left(frozenset)
    await other.database.ready()
    found, number = await rows.after(number, ALL, 10)
    assert [(row.request_id, row.status) for row in found] == [("lost", Status.KILLED)]
    assert await rows.after(number, ALL, 10) == ([], number)
    for each in (store, other):
        each.database.close()


async def test_pages_leave_nothing_out_and_repeat_nothing(store: Store) -> None:
    """Also where some are not selected."""
    for number in range(25):
        ended(store, number, tenant="a" if number % 5 else "b")
    await store.database.ready()
    rows, wanted = store.ledger.rows, Selection(tenant="a")
    count, number = await rows.extent(wanted)
    seen: list[str] = []
    while True:
        found, number = await rows.after(number, wanted, 6)
        seen += [row.request_id for row in found]
        if len(found) < 6:
            break
    assert (len(seen), count) == (20, 20)
    assert seen == [f"resp_{number}" for number in range(25) if number % 5]


async def test_rows_are_selected_by_whose_they_are(store: Store) -> None:
    for number, fields in enumerate(({"tenant": "a"}, {"user": "ann"}, {"tag": "night"})):
        ended(store, number, Status.COMPLETED, **fields)
    ended(store, 3, Status.FAILED)
    assert await ids(store) == ["resp_3", "resp_2", "resp_1", "resp_0"]
    assert await ids(store, Selection(tenant="a")) == ["resp_0"]
    assert await ids(store, Selection(user="ann")) == ["resp_1"]
    assert await ids(store, Selection(tag="night")) == ["resp_2"]
    assert await ids(store, Selection(status=Status.FAILED)) == ["resp_3"]
    assert (
        await ids(store, Selection(since=1_700_000_001.0)) == await ids(store, Selection(until=1_700_000_000.0)) == []
    )
    assert await store.ledger.rows.find("resp_0", "other") is None
    assert [row.request_id for row in await store.ledger.rows.beginning("resp_")] == ["resp_0", "resp_1"]


async def test_old_rows_are_deleted_in_steps_by_hand(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what runs, and for the newest one, whose number must not come again."""
    monkeypatch.setattr(
        ledger_rows, "_DELETE_OLD", ledger_rows._DELETE_OLD.replace(f"LIMIT {ledger_rows.STEP}", "LIMIT 4")
    )
    call(store.bill(replace(REQUEST, id="runs")), SMALL, StubAttempt(), Outcome.RUNNING)
    for number in range(11):
        ended(store, number)
    await store.database.ready()
    rows, later = store.ledger.rows, 1_700_000_001.0
    assert await rows.count_before(1_700_000_000.0) == 0
    assert await rows.count_before(later) == 10
    assert [await rows.delete_before(later) for _ in range(4)] == [4, 4, 2, 0]
    assert sorted(row["request_id"] for row in await store.rows()) == ["resp_10", "runs"]


async def test_a_server_deletes_what_is_too_old(tmp_path: Path) -> None:
    """At its start, and as rows come; in steps. What runs stays, and so does the newest."""
    clock = ManualClock(1_700_000_000.5)
    store = Store(str(tmp_path))
    store.ledger = SqliteLedger(store.database, keep_days=31, wall=clock)
    for number in range(STEP + 20):
        ended(store, number)
    clock.now += 31 * DAY_S - 1
    store.ledger.prune()
    assert len(await ids(store)) == 100  # all that was asked for
    await asyncio.to_thread(store.database.close)
    clock.now += 2
    store = Store(str(tmp_path))
    store.ledger = SqliteLedger(store.database, keep_days=31, wall=clock)
    store.ledger.prune()
    for _ in range(4):
        await store.database.ready()
    assert await ids(store) == [f"resp_{STEP + 19}"]
    call(store.bill(replace(REQUEST, id="runs")), SMALL, StubAttempt(usage=USAGE), Outcome.RUNNING)
    for number in range(PRUNE_EVERY):
        ended(store, number)
    for _ in range(6):
        await store.database.ready()
    assert await ids(store) == [f"resp_{PRUNE_EVERY - 1}"]
    assert [row["request_id"] for row in await store.rows()] == ["runs", f"resp_{PRUNE_EVERY - 1}"]
    store.database.close()


async def test_who_follows_misses_none_after_all_was_too_old(tmp_path: Path) -> None:
    """A number is never given twice."""
    store = Store(str(tmp_path))
    store.ledger = SqliteLedger(store.database, keep_days=31, wall=ManualClock(1_900_000_000.0))
    for number in range(9):
        ended(store, number)
    await store.database.ready()
    _, seen = await store.ledger.rows.latest(ALL, 1)
    store.ledger.prune()
    await store.database.ready()
    ended(store, 10)
    await store.database.ready()
    found, _ = await store.ledger.rows.after(seen, ALL, 10)
    assert [row.request_id for row in found] == ["resp_10"]
    store.database.close()


async def test_a_story_of_another_version_is_none(store: Store) -> None:
    """Whoever looks back at many rows does not stop at one."""
    ended(store, 1)
    ended(store, 2)
    other = """UPDATE entries SET story = '{"needed": "much"}', shape = '{"model": 1}' WHERE request_id = 'resp_1'"""
    store.database.write(lambda connection: connection.execute(other))
    await store.database.ready()
    past = SqlitePast(store.database)
    first, second = await past.read(await past.ended(0.0), stories=True)
    assert (first.request_id, first.story, second.request_id) == ("resp_1", NO_STORY, "resp_2")
    found = await store.ledger.rows.find("resp_1")
    assert found is not None
    assert (found[1].story, found[1].shape) == (NO_STORY, None)


async def test_rows_of_an_earlier_version_are_read(store: Store) -> None:
    """What they lack is not known, and nothing is made up."""
    ended(store, 1)
    call = '{"model": "m", "tier": "small", "outcome": "answered", "input_tokens": 1, "cached_input_tokens": 0'
    call += ', "output_tokens": 2, "reasoning_tokens": 0, "estimated": false, "cost_nanodollars": 5}'
    old = f"UPDATE entries SET story = '', shape = '', baseline = '', calls = '[{call}]'"  # noqa: S608
    store.database.write(lambda connection: connection.execute(old))
    await store.database.ready()
    found = await store.ledger.rows.find("resp_1")
    assert found is not None
    (charge,) = found[1].statement.charges
    assert (charge.usage, charge.cost) == (Usage(input_tokens=1, output_tokens=2), Decimal("5e-9"))
    assert (charge.price, charge.began_at, found[1].shape, found[1].baseline) == (None, None, None, None)
