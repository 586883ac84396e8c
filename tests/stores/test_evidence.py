"""What was judged, as it is on disk: stored once and whole, read newest first, pruned; with changes and feedback."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from millrace.stores.database import SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from millrace.types import (
    EVIDENCE_TENANT,
    Change,
    EvidenceCost,
    Feedback,
    FeedbackCounts,
    Lever,
    Opinion,
    Rating,
    Says,
    Steering,
)
from tests.support.bills import LARGE, REQUEST, USAGE, Store, StubAttempt, call, settle
from tests.support.clock import ManualClock
from tests.support.judged import judged
from tests.support.looks import look

DAY_S = 86_400.0
NOW = 1_000 * DAY_S
KEEP_DAYS = 30


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(str(tmp_path))
    yield database
    await asyncio.to_thread(database.close)


def kept(database: SqliteDatabase, *, wall: ManualClock | None = None, samples: int = 1000) -> SqliteEvidence:
    return SqliteEvidence(database, keep_days=KEEP_DAYS, wall=wall or ManualClock(NOW), samples=samples)


def change(at: float, scope: bytes, strictness: float = 0.5, *, is_off: bool = False) -> Change:
    steering = Steering(strictness=strictness, is_off=is_off)
    return Change(at=at, tenant="acme", scope=scope, steering=steering, reason=f"at {at:g}")


async def test_what_was_judged_is_read_as_it_was_stored(database: SqliteDatabase) -> None:
    each = judged(
        "1",
        "same different",
        probability=0.1,
        scope=b"\x00scope",
        taken_at=NOW,
        entry_id="ans_1",
        asked_id="ans_2",
        log_odds=2.5,
        features={"cosine": 0.93, "length": 1e-9},
        detail="unsure",
    )
    each = replace(each, opinions=(each.opinions[0], Opinion(judge="own", says=Says.DIFFERENT, probability=0.05)))
    await kept(database).add([each])
    assert await kept(database).judged(None, 0.0, 10) == [each]


async def test_the_newest_are_returned_the_oldest_first(database: SqliteDatabase) -> None:
    """Of one lever or all, of one tenant or all, of samples taken since then."""
    store = kept(database)
    await store.add(
        [
            judged("3", taken_at=NOW - 1),
            judged("1", taken_at=NOW - 3, lever=Lever.NEAR_MISS),
            judged("2", taken_at=NOW - 2, tenant="other"),
        ]
    )

    async def ids(lever: Lever | None, since: float, most: int, tenant: str | None = None) -> list[str]:
        return [each.sample.id for each in await store.judged(lever, since, most, tenant)]

    assert await ids(None, 0.0, 10) == ["smp_1", "smp_2", "smp_3"]
    assert await ids(None, 0.0, 2) == ["smp_2", "smp_3"]
    assert await ids(None, NOW - 1.5, 10) == ["smp_3"]
    assert await ids(Lever.SEMANTIC, 0.0, 10) == ["smp_2", "smp_3"]
    assert await ids(Lever.SEMANTIC, 0.0, 10, "acme") == ["smp_3"]
    assert await ids(None, 0.0, 10, "acme") == ["smp_1", "smp_3"]
    assert await ids(Lever.SMALL, 0.0, 10) == []


async def test_a_sample_is_judged_once(database: SqliteDatabase) -> None:
    """One that is stored stays wholly as it is; others of the same call are stored."""
    store = kept(database)
    await store.add([judged("1", "same", taken_at=NOW)])
    await store.add([judged("1", "different same", taken_at=NOW, tenant="other"), judged("2", taken_at=NOW)])
    assert await store.judged(None, 0.0, 10) == [judged("1", "same", taken_at=NOW), judged("2", taken_at=NOW)]


async def test_all_is_stored_or_nothing(database: SqliteDatabase) -> None:
    """A number that is none is refused, with all that came with it."""
    store = kept(database)
    broken = judged("2", taken_at=NOW, log_odds=float("nan"))
    with pytest.raises(sqlite3.IntegrityError):
        await store.add([judged("1", taken_at=NOW), broken], [change(NOW, b"a")])
    assert (await store.judged(None, 0.0, 10), await store.steered()) == ([], [])


async def test_a_row_of_another_version_is_passed_over(database: SqliteDatabase) -> None:
    store = kept(database)
    await store.add([judged(str(number), taken_at=NOW) for number in range(4)])
    spoil = """
        UPDATE judged SET lever = iif(id = 'smp_0', 'later', lever), features = iif(id = 'smp_1', x'00', features),
            opinions = iif(id = 'smp_2', '[[1]]', opinions)
    """
    await look(database, lambda connection: connection.execute(spoil))
    assert [each.sample.id for each in await store.judged(None, 0.0, 10)] == ["smp_3"]


async def test_a_damaged_probability_is_passed_over(database: SqliteDatabase) -> None:
    """What a sample stands for is one divided by it."""
    store = kept(database)
    damaged = Opinion(judge="judge", says=Says.SAME, probability=0.0)
    rows = [replace(judged("1", taken_at=NOW), opinions=(damaged,)), judged("2", probability=1e-320, taken_at=NOW)]
    await store.add([*rows, judged("3", probability=0.0, taken_at=NOW)])
    assert [each.sample.id for each in await store.judged(None, 0.0, 10)] == ["smp_3"]


async def test_each_scope_is_steered_as_it_was_changed_last(database: SqliteDatabase) -> None:
    """Whatever the clock said then; the changes are listed, the newest first."""
    store = kept(database)
    first, second = change(NOW, b"a", 0.5), change(NOW - 5, b"a", 1.0, is_off=True)
    of_all = change(NOW, b"", 0.25)
    await store.add([], [first])
    await store.add([], [of_all])
    await store.add([], [second])
    assert await store.steered() == [first, of_all, second]
    assert await store.changes(0.0, 10) == [second, of_all, first]
    assert await store.changes(NOW - 1, 10) == [of_all, first]
    assert await store.changes(0.0, 1, "acme") == [second]
    assert await store.changes(0.0, 10, "other") == []


async def count(database: SqliteDatabase, table: str) -> int:
    query = f"SELECT count(*) FROM {table}"  # noqa: S608 - a name of the test
    found: tuple[int] = await look(database, lambda connection: connection.execute(query).fetchone())
    return found[0]


async def test_what_is_old_is_neither_read_nor_kept(database: SqliteDatabase) -> None:
    """But for the last change of a scope, which says how it is steered."""
    wall = ManualClock(NOW)
    store = kept(database, wall=wall)
    await store.add(
        [judged("old", taken_at=NOW), judged("new", taken_at=NOW + DAY_S)],
        [change(NOW, b"a", 0.5), change(NOW + 1, b"a", 1.0), change(NOW, b"b", 1.0)],
    )
    await store.add_feedback(said("resp_1", at=NOW))
    wall.now = NOW + KEEP_DAYS * DAY_S + 2
    assert [each.sample.id for each in await store.judged(None, 0.0, 10)] == ["smp_new"]
    assert await store.changes(0.0, 10) == []
    assert await store.feedback(0.0) == FeedbackCounts()
    store.prune()
    await database.ready()
    assert [await count(database, table) for table in ("judged", "steering_changes", "feedback")] == [1, 2, 0]
    assert [each.steering.strictness for each in await store.steered()] == [1.0, 1.0]


async def test_the_oldest_go_first_where_there_are_too_many(database: SqliteDatabase) -> None:
    store = kept(database, samples=100)
    for start in range(0, 300, 50):
        await store.add([judged(str(number), taken_at=NOW + number) for number in range(start, start + 50)])
    await database.ready()
    left = await store.judged(None, 0.0, 1000)
    assert 50 <= len(left) <= 150
    assert left[-1].sample.id == "smp_299"
    assert [each.sample.taken_at - NOW for each in left] == [*range(300 - len(left), 300)]


async def test_the_last_changes_of_many_scopes_are_kept_and_no_more(database: SqliteDatabase) -> None:
    """Their number is bounded: those that were changed long ago go."""
    wall = ManualClock(NOW)
    store = kept(database, wall=wall)
    await store.add([], [change(NOW + number, f"{number:05}".encode()) for number in range(10_003)])
    wall.now = NOW + 2 * KEEP_DAYS * DAY_S
    store.prune()
    await database.ready()
    steered = await store.steered()
    assert len(steered) == 10_000
    assert steered[0].scope == b"00003"


def said(response_id: str, key_id: str = "k1", *, up: bool = True, at: float = NOW, tenant: str = "acme") -> Feedback:
    rating = Rating.UP if up else Rating.DOWN
    return Feedback(tenant=tenant, response_id=response_id, key_id=key_id, rating=rating, has_better=not up, at=at)


async def test_feedback_counts_once_for_each_response_and_key(database: SqliteDatabase) -> None:
    store = kept(database)
    assert await store.add_feedback(said("resp_1"))
    assert not await store.add_feedback(said("resp_1", up=False))
    assert [await store.has_feedback("acme", "resp_1", key) for key in ("k1", "k2")] == [True, False]
    assert await store.add_feedback(said("resp_1", "k2", up=False))
    assert await store.add_feedback(said("resp_1", tenant="other"))
    assert await store.feedback(0.0) == FeedbackCounts(up=2, down=1, better=1)
    assert await store.feedback(0.0, "acme") == FeedbackCounts(up=1, down=1, better=1)
    assert await store.feedback(NOW + 1) == FeedbackCounts()


async def test_no_text_has_a_column(database: SqliteDatabase) -> None:
    """What people wrote, and models answered, is nowhere in these tables."""
    kept(database)
    await database.ready()
    named: list[tuple[str]] = await look(
        database,
        lambda connection: connection.execute(
            "SELECT name FROM pragma_table_info('judged') UNION SELECT name FROM pragma_table_info('feedback')"
        ).fetchall(),
    )
    assert {name for (name,) in named} == {
        *("id", "lever", "tenant", "scope", "request_id", "taken_at", "probability", "entry_id", "asked_id"),
        *(
            "log_odds",
            "features",
            "prompt_features",
            "detail",
            "opinions",
            "response_id",
            "key_id",
            "rating",
            "has_better",
            "at",
        ),
    }


async def test_what_evidence_has_cost_is_in_the_ledger(store: Store) -> None:
    """As the operator's own; what other tenants have asked for does not count."""
    for number, tenant in enumerate((EVIDENCE_TENANT, "acme", EVIDENCE_TENANT)):
        bill = store.bill(replace(REQUEST, id=f"resp_{number}", tenant=tenant))
        call(bill, LARGE, StubAttempt(usage=USAGE))
        settle(bill)
    each = (8 * Decimal("2.50") + 20 * Decimal("10.00")) / 1_000_000
    assert await store.ledger.bills.evidence_cost(1_700_000_000.0) == EvidenceCost(requests=2, dollars=2 * each)
    assert await store.ledger.bills.evidence_cost(1_700_000_001.0) == EvidenceCost(requests=0, dollars=Decimal(0))
