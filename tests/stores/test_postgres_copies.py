"""What a data_dir keeps is copied to PostgreSQL: all of it, each row once, whatever ends the copy in between."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from millrace.__main__ import main
from millrace.assembly.postgres import copying
from millrace.settings import SharedSettings
from millrace.stores import processes
from millrace.stores.database import SqliteDatabase
from millrace.stores.postgres.connection import Connection
from millrace.stores.postgres.copies import LEDGER, PAGE, TABLES
from millrace.stores.postgres.shipper import PAGE as LEDGER_PAGE
from tests.support.kept import filled
from tests.support.shared_servers import SharedServer

NOW = 1_796_000_000.0
ROWS, RESPONSES = LEDGER_PAGE + 40, PAGE + 30
_names = itertools.count()


class KilledError(Exception):
    """The copy ends here."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("grown"))
    database = SqliteDatabase(folder)
    asyncio.run(filled(database, NOW, rows=ROWS, responses=RESPONSES))
    database.close()
    return folder


@pytest.fixture
def shared(server: SharedServer) -> SharedSettings:
    return SharedSettings(postgres=server.url, name=f"service{next(_names)}")


def copy(folder: str, shared: SharedSettings) -> Result:
    command = ["db", "copy", f"sqlite:{folder}", str(shared.postgres), "--name", shared.name]
    return CliRunner().invoke(main, command)


def asked(shared: SharedSettings, query: str) -> list[tuple[Any, ...]]:
    connection = Connection(str(shared.postgres), shared.name)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def counts(shared: SharedSettings) -> dict[str, int]:
    names = (LEDGER, *(table.name for table in TABLES))
    return {name: asked(shared, f"SELECT count(*) FROM {name}")[0][0] for name in names}  # noqa: S608 - names of ours


ALL = {LEDGER: ROWS, "keys": 2, "responses": RESPONSES, "judged": 2, "steering_changes": 2, "feedback": 1}
ALL |= {"router_states": 4, "router_frozen": 1, "router_promises": 1}


def test_everything_is_copied_once_and_once_more_changes_nothing(folder: str, shared: SharedSettings) -> None:
    first = copy(folder, shared)
    assert first.exit_code == 0, first.output
    assert "NOT EQUAL" not in first.output
    assert counts(shared) == ALL
    assert asked(shared, "SELECT count(*) FROM entries WHERE status = 'killed' AND epoch = 'dead'") >= [(1,)]
    numbers = asked(shared, "SELECT sum(rowid), max(rowid) FROM entries")
    assert copy(folder, shared).exit_code == 0
    assert counts(shared) == ALL
    assert asked(shared, "SELECT sum(rowid), max(rowid) FROM entries") == numbers


@pytest.mark.parametrize("after", [1, LEDGER_PAGE + 5, ROWS + 3, ROWS + PAGE + 4])
def test_one_that_was_killed_goes_on_where_it_was(folder: str, shared: SharedSettings, after: int) -> None:
    arrived = 0

    def advance(more: int) -> None:
        nonlocal arrived
        arrived += more
        if arrived >= after:
            raise KilledError

    async def killed() -> None:
        async with copying(folder, shared, lambda: NOW) as started:
            for name in await started.rows():
                await started.copied(name, advance)

    with pytest.raises(KilledError):
        asyncio.run(killed())
    before = sum(counts(shared).values())
    assert after <= before < sum(ALL.values())
    ended = copy(folder, shared)
    assert ended.exit_code == 0, ended.output
    assert counts(shared) == ALL


def test_what_is_not_equal_is_told_and_copied_by_the_next_one(folder: str, shared: SharedSettings) -> None:
    assert copy(folder, shared).exit_code == 0
    asked(shared, "DELETE FROM responses WHERE id = 'resp_7' RETURNING id")
    again = copy(folder, shared)
    assert again.exit_code == 0
    assert counts(shared) == ALL
    asked(shared, "UPDATE entries SET cost_nanodollars = cost_nanodollars + 1 WHERE request_id LIKE '%03' RETURNING 1")
    told = copy(folder, shared)
    assert told.exit_code == 1
    assert "NOT EQUAL" in told.output


def test_a_data_dir_that_is_served_or_has_nothing_is_left_alone(
    folder: str, shared: SharedSettings, tmp_path: Path
) -> None:
    claim = processes.claim(folder)
    try:
        ended = copy(folder, shared)
    finally:
        claim.release()
    assert ended.exit_code == 3
    assert "in use" in ended.output
    assert copy(str(tmp_path), shared).exit_code == 2
    away = SharedSettings(postgres="postgresql://user:secret@127.0.0.1:1/x", name="away")
    ended = copy(folder, away)
    assert ended.exit_code == 3
    assert "secret" not in ended.output


@pytest.mark.parametrize(
    ("source", "target"),
    [("grown", "postgresql://x/y"), ("sqlite:", "postgresql://x/y"), ("sqlite:grown", "mysql://x/y")],
)
def test_what_cannot_be_copied_is_named(source: str, target: str) -> None:
    ended = CliRunner().invoke(main, ["db", "copy", source, target])
    assert ended.exit_code == 2
    assert "write" in ended.output
