"""What is judged and what the router learns: PostgreSQL keeps for all replicas what SQLite keeps for one."""

import asyncio
from collections.abc import Iterator

import pytest

from millrace.stores.evidence import SqliteEvidence
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.router import SNAPSHOT_S, SNAPSHOTS, SqliteRouter
from millrace.types import Change, Feedback, FeedbackCounts, Lever, Rating, StateVersion, Steering
from tests.support.clock import ManualClock
from tests.support.judged import judged
from tests.support.shared_servers import SharedServer
from tests.support.waiting import PATIENCE_S

NOW = 1_796_000_000.0


@pytest.fixture
def pair(server: SharedServer, service: str) -> Iterator[tuple[PostgresDatabase, PostgresDatabase]]:
    one, two = PostgresDatabase(server.url, service), PostgresDatabase(server.url, service)
    yield one, two
    one.close()
    two.close()


def change(at: float, strictness: float) -> Change:
    steering = Steering(strictness=strictness, is_off=False)
    return Change(at=at, tenant="acme", scope=b"\x01", steering=steering, reason="r")


async def test_what_one_has_judged_all_report(pair: tuple[PostgresDatabase, PostgresDatabase]) -> None:
    one, two = (SqliteEvidence(each, keep_days=30, wall=lambda: NOW) for each in pair)
    samples = [judged("a", taken_at=NOW - 2), judged("b", "same different", taken_at=NOW - 1, tenant="other")]
    await one.add(samples, [change(NOW, 0.5), change(NOW + 1, 0.75)])
    await two.add(samples[:1])  # it is there
    assert await two.judged(None, 0.0, 10) == samples
    assert await two.judged(Lever.SEMANTIC, 0.0, 10, "other") == samples[1:]
    assert await two.steered() == [change(NOW, 0.5), change(NOW + 1, 0.75)]
    assert await two.changes(0.0, 1, "acme") == [change(NOW + 1, 0.75)]
    assert await two.changes(0.0, 5, "other") == []


async def test_feedback_is_given_once_at_any_replica(pair: tuple[PostgresDatabase, PostgresDatabase]) -> None:
    one, two = (SqliteEvidence(each, keep_days=30, wall=lambda: NOW) for each in pair)
    given = Feedback(tenant="acme", response_id="resp_1", key_id="", rating=Rating.UP, has_better=True, at=NOW)
    assert await one.add_feedback(given)
    assert not await two.add_feedback(given)
    assert await two.has_feedback("acme", "resp_1", "")
    assert await two.feedback(0.0) == FeedbackCounts(up=1, down=0, better=1)
    assert await two.feedback(0.0, "other") == FeedbackCounts(up=0, down=0, better=0)


async def test_what_is_too_old_or_too_much_goes(pair: tuple[PostgresDatabase, PostgresDatabase]) -> None:
    now = NOW
    store = SqliteEvidence(pair[0], keep_days=1, wall=lambda: now, samples=50)
    await store.add([judged(f"{number}", taken_at=NOW + number) for number in range(120)], [change(NOW, 0.5)])
    async with asyncio.timeout(PATIENCE_S):
        while len(await store.judged(None, 0.0, 1000)) > 50:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    now += 40 * 86_400
    async with asyncio.timeout(PATIENCE_S):
        count = "SELECT count(*) FROM judged"
        while await pair[0].read(lambda c: c.execute(count).fetchone(), within_s=PATIENCE_S) != (0,):
            store.prune()  # it does nothing while steps of an earlier one are under way
            await asyncio.sleep(0.02)
    assert await store.steered() == [change(NOW, 0.5)]  # the last one of a scope stays


async def test_of_two_who_have_learned_at_once_one_is_kept(pair: tuple[PostgresDatabase, PostgresDatabase]) -> None:
    clock = ManualClock()
    one, two = (SqliteRouter(each, wall=clock) for each in pair)
    saved = await asyncio.gather(*(store.save("acme", b"one", 1, None) for store in (one, two) for _ in range(5)))
    assert [version for version in saved if version is not None] == [StateVersion(1, 0)]
    version: StateVersion | None = StateVersion(1, 0)
    assert await two.save("acme", b"two", 2, version) == StateVersion(1, 1)
    assert await one.save("acme", b"late", 2, version) is None
    kept = await one.load("acme")
    assert kept is not None
    assert (kept.state, kept.version) == (b"two", StateVersion(1, 1))
    assert await one.versions(["acme", "other"]) == {"acme": StateVersion(1, 1)}
    version = kept.version
    for _ in range(SNAPSHOTS + 2):
        clock.now += SNAPSHOT_S
        version = await one.save("acme", b"later", 3, version)
    assert len(await two.snapshots("acme")) == SNAPSHOTS
    assert await two.tenants() == ["acme"]


async def test_who_is_frozen_is_so_at_all(pair: tuple[PostgresDatabase, PostgresDatabase]) -> None:
    one, two = (SqliteRouter(each, wall=ManualClock()) for each in pair)
    assert await one.freeze("acme", frozen=True)
    assert not await two.freeze("acme", frozen=True)
    assert await two.frozen() == {"acme"}
    assert await two.freeze("acme", frozen=False)
    assert await one.frozen() == frozenset()
    assert await one.load_promises() is None
    await one.save_promises(b"kept")
    assert await two.load_promises() == b"kept"
