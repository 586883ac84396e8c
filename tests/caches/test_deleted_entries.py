"""What is deleted by a command or by an admin is never served again, whichever cache or process has it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from millrace.caches import deletions
from millrace.caches.deletions import Deletion, Deletions, add, heeded_by_all, prepare
from millrace.stores.database import FILE, SqliteDatabase
from tests.support.cache_commands import asked, beside
from tests.support.server import Start
from tests.support.waiting import PATIENCE_S, until

ASKED, SAME = "How do I reset my router?", "How can I reset my router?"


class Memory:
    """A cache in memory."""

    def __init__(self) -> None:
        self.forgotten: list[list[tuple[str, bytes]] | None] = []

    def forget(self, gone: list[tuple[str, bytes]] | None) -> None:
        self.forgotten.append(gone)


def all_ids(file: sqlite3.Connection) -> set[str]:
    rows = file.execute("SELECT id FROM semantic_entries UNION ALL SELECT id FROM answers").fetchall()
    return {entry_id for (entry_id,) in rows}


@asynccontextmanager
async def client(start: Start, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        start(lambda configuration: configuration["server"].update(data_dir=str(folder))) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        yield http


@pytest.mark.parametrize("question", [ASKED, SAME])
async def test_an_answer_that_a_command_deletes_is_served_by_neither_cache_of_a_running_server(
    start: Start, tmp_path: Path, question: str
) -> None:
    """From the moment that the command returns; its id is in every hit."""
    async with client(start, tmp_path) as http:
        await asked(http, ASKED)
        hit = await asked(http, question)
        assert hit["millrace.cache"] == ("exact" if question == ASKED else "semantic")
        assert float(hit["millrace.age_s"]) >= 0
        with closing(sqlite3.connect(tmp_path / FILE)) as file:  # the command beside the server reads the disk
            await until(lambda: hit["millrace.entry_id"] in all_ids(file))
        assert (await beside(tmp_path, "delete", hit["millrace.entry_id"]))["exact"] == 1
        assert (await asked(http, question))["millrace.cache"] == "miss"
        with closing(sqlite3.connect(tmp_path / FILE)) as file:
            await until(lambda: hit["millrace.entry_id"] not in all_ids(file))
        assert (await asked(http, question))["millrace.cache"] == "exact"  # what came in its place


@pytest.mark.parametrize("flush", [("--all",), ("--tenant", "anonymous")])
async def test_a_flush_empties_a_running_server(start: Start, tmp_path: Path, flush: tuple[str, ...]) -> None:
    async with client(start, tmp_path) as http:
        await asked(http, ASKED)
        assert (await asked(http, SAME))["millrace.cache"] == "semantic"
        assert (await beside(tmp_path, "flush", *flush, "--yes"))["semantic"] == 1
        assert (await asked(http, ASKED))["millrace.cache"] == "miss"
        with closing(sqlite3.connect(tmp_path / FILE)) as file:
            await until(lambda: file.execute("SELECT count(*) FROM semantic_entries").fetchone() == (1,))
        assert (await asked(http, SAME))["millrace.cache"] == "semantic"


async def test_a_flush_of_another_tenant_or_scope_takes_nothing(start: Start, tmp_path: Path) -> None:
    async with client(start, tmp_path) as http:
        await asked(http, ASKED)
        for flush in (("--tenant", "acme"), ("--scope", "00" * 32)):
            assert (await beside(tmp_path, "flush", *flush, "--yes"))["semantic"] == 0
        assert (await asked(http, SAME))["millrace.cache"] == "semantic"
        entry_id = (await asked(http, ASKED))["millrace.entry_id"]
        scope = (await beside(tmp_path, "show", entry_id))["scope"]
        deleted = await beside(tmp_path, "flush", "--scope", scope, "--yes")
        assert (deleted["exact"], deleted["semantic"]) == (1, 1)
        assert (await asked(http, ASKED))["millrace.cache"] == "miss"


async def test_what_was_deleted_without_a_server_stays_deleted(start: Start, tmp_path: Path) -> None:
    async with client(start, tmp_path) as http:
        await asked(http, ASKED)
        entry_id = (await asked(http, SAME))["millrace.entry_id"]
    assert (await beside(tmp_path, "delete", entry_id))["semantic"] == 1
    async with client(start, tmp_path) as http:
        assert (await asked(http, SAME))["millrace.cache"] == "miss"


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    return SqliteDatabase(str(tmp_path))


async def read_by(database: SqliteDatabase, *wanted: Deletion, epoch: str = "a") -> tuple[Deletions, Memory]:
    memory = Memory()
    made = Deletions(database, epoch, [memory], ttl_s=60.0, wall=lambda: 1000.0)
    await database.ready()
    await made.begin(())
    await database.commit(lambda connection: add(connection, wanted), within_s=PATIENCE_S)
    await made.read()
    return made, memory


async def test_a_deletion_covers_one_tenant_one_scope_and_what_was_stored_before(database: SqliteDatabase) -> None:
    made, memory = await read_by(database, Deletion(at=500.0, entry_id="ans_1", tenant="acme", scope=b"s"))
    assert made.covers("ans_1", 500.0, "acme")
    assert not made.covers("ans_1", 501.0, "acme")  # a newer answer to the same question
    assert not made.covers("ans_1", 400.0, "other")
    assert not made.covers("ans_2", 400.0, "acme")
    assert memory.forgotten == [[("ans_1", b"s")]]
    made, memory = await read_by(database, Deletion(at=500.0, tenant="acme", scope=b"s"))
    assert made.covers("ans_3", 500.0, "acme", b"s")
    for stored_at, tenant, scope in ((501.0, "acme", b"s"), (500.0, "other", b"s"), (500.0, "acme", b"t")):
        assert not made.covers("ans_3", stored_at, tenant, scope)
    assert not made.covers("ans_3", 500.0, "acme")
    assert memory.forgotten == [[("ans_1", b"s")], None]
    made, _ = await read_by(database, Deletion(at=600.0))
    assert made.covers("ans_4", 600.0, "whoever")
    assert not made.covers("ans_4", 601.0, "whoever")
    database.close()


async def test_an_entry_that_is_on_its_way_to_the_disk_is_not_served_after_a_restart(database: SqliteDatabase) -> None:
    """Its deletion is remembered for longer than it lives; the words of processes that are gone are not."""
    await read_by(database, Deletion(at=990.0, entry_id="ans_1"), Deletion(at=10.0, entry_id="ans_0"), epoch="old")
    made = Deletions(database, "new", [], ttl_s=60.0, wall=lambda: 1000.0)
    await made.begin(())
    await database.ready()
    assert made.covers("ans_1", 989.0, "acme")
    await Deletions(database, "next", [], ttl_s=60.0, wall=lambda: 1000.0).begin(())
    known = await database.commit(
        lambda connection: connection.execute("SELECT epoch FROM cache_deletions_read").fetchall(), within_s=PATIENCE_S
    )
    left = await database.commit(
        lambda connection: connection.execute("SELECT entry_id FROM cache_deletions").fetchall(), within_s=PATIENCE_S
    )
    assert ({epoch for (epoch,) in known}, left) == ({"next"}, [("ans_1",)])
    database.close()


async def test_a_deletion_leaves_memory_once_nothing_is_left_that_it_covers(database: SqliteDatabase) -> None:
    now = [1000.0]
    made = Deletions(database, "a", [], ttl_s=60.0, wall=lambda: now[0])
    for number in range(3):
        each = Deletion(at=now[0], entry_id=f"ans_{number}")
        await database.commit(partial(add, deletions=[each]), within_s=PATIENCE_S)
        await made.read()
        now[0] += 60.0
    assert not made.covers("ans_0", 1000.0, "acme")
    assert made.covers("ans_1", 1060.0, "acme")
    database.close()


async def test_a_deletion_waits_until_every_process_heeds_it(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says so when one does not."""
    database.write(prepare)
    number = await database.commit(lambda connection: add(connection, [Deletion(at=1.0)]), within_s=PATIENCE_S)
    reader = Deletions(database, "a", [], ttl_s=60.0, wall=lambda: 1.0)
    waiting = asyncio.create_task(heeded_by_all(database, lambda: frozenset({"a"}), number))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await reader.read()
    await waiting
    monkeypatch.setattr(deletions, "HEED_S", 0.1)
    with pytest.raises(TimeoutError, match="has not read it"):
        await heeded_by_all(database, lambda: frozenset({"a", "b"}), number)
    database.close()
