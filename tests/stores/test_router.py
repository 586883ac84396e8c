"""What the router has learned, on disk: versions that do not overwrite each other, snapshots, and damage."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.router import ALL, SNAPSHOT_S, SNAPSHOTS, SqliteRouter
from millrace.types import StateVersion
from tests.support.clock import ManualClock


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(database: SqliteDatabase, clock: ManualClock) -> SqliteRouter:
    opened = SqliteRouter(database, wall=clock)
    await database.ready()
    return opened


async def test_the_newest_state_is_loaded(store: SqliteRouter) -> None:
    assert await store.load("acme") is None
    first = await store.save("acme", b"one", 1, None)
    second = await store.save("acme", b"two", 2, first)
    assert (first, second) == (StateVersion(1, 0), StateVersion(1, 1))
    kept = await store.load("acme")
    assert kept is not None
    assert (kept.state, kept.labels, kept.version) == (b"two", 2, second)
    assert await store.load("other") is None
    assert await store.versions(["acme", "other"]) == {"acme": second}


async def test_a_state_that_does_not_come_after_the_newest_is_not_kept(store: SqliteRouter) -> None:
    """As when another process has kept one in a handover."""
    first = await store.save("acme", b"one", 1, None)
    await store.save("acme", b"theirs", 2, first)
    assert await store.save("acme", b"mine", 2, first) is None
    assert await store.save("acme", b"mine", 2, None) is None
    kept = await store.load("acme")
    assert kept is not None
    assert kept.state == b"theirs"


async def test_earlier_states_stay_as_snapshots(store: SqliteRouter, clock: ManualClock) -> None:
    """One for each period, and not without end."""
    version = None
    for number in range(2 * SNAPSHOTS):
        for _ in range(2):
            version = await store.save("acme", b"%d" % number, number, version)
        clock.now += SNAPSHOT_S
    snapshots = await store.snapshots("acme")
    newest = 2 * SNAPSHOTS
    assert [each.version.number for each in snapshots] == [*range(newest, newest - SNAPSHOTS, -1)]
    assert {each.version.revision for each in snapshots} == {1}
    found = await store.snapshot("acme", newest - 3)
    assert found is not None
    assert found.state == b"%d" % (newest - 4)
    assert await store.snapshot("acme", 1) is None


async def test_a_damaged_state_is_told_and_never_overwritten(
    store: SqliteRouter, database: SqliteDatabase, tmp_path: Path
) -> None:
    first = await store.save("acme", b"one", 1, None)
    await database.ready()
    with closing(sqlite3.connect(tmp_path / FILE)) as file, file:
        file.execute("UPDATE router_states SET state = x'00'")
    kept = await store.load("acme")
    assert kept is not None
    assert (kept.state, kept.version) == (None, first)
    await store.save("acme", b"anew", 0, first, anew=True)
    assert [each.state for each in await store.snapshots("acme")] == [b"anew", None]


async def test_a_freeze_is_kept_until_it_is_lifted(store: SqliteRouter) -> None:
    assert await store.freeze("acme", frozen=True)
    assert not await store.freeze("acme", frozen=True)
    assert await store.freeze(ALL, frozen=True)
    assert await store.frozen() == {"acme", ALL}
    assert await store.freeze("acme", frozen=False)
    assert await store.frozen() == {ALL}


async def test_how_promises_are_kept_is_kept(store: SqliteRouter, tmp_path: Path) -> None:
    assert await store.load_promises() is None
    await store.save_promises(b"one")
    await store.save_promises(b"two")
    assert await store.load_promises() == b"two"
    with closing(sqlite3.connect(tmp_path / FILE)) as file, file:
        file.execute("UPDATE router_promises SET state = x'00'")
    assert await store.load_promises() == b""  # it is damaged
