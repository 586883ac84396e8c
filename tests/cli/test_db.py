"""`millrace db`, and how a server meets tables of another version."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from millrace.__main__ import main
from millrace.stores.postgres.connection import Connection
from millrace.stores.postgres.shipper import make_days
from tests.support.paths import REPOSITORY
from tests.support.ports import free_port
from tests.support.processes import spawn
from tests.support.shared_servers import SharedServer, postgres_server

SECRET = "not-to-be-shown"


@pytest.fixture(scope="module")
def server() -> Iterator[SharedServer]:
    with postgres_server() as running:
        yield running


def config(folder: Path, url: str, name: str) -> str:
    models = "".join(
        f'[models.{tier}]\nupstream = "openai"\nbase_url = "http://127.0.0.1:9"\nmodel = "m"\n'
        'price = { input = "1", output = "2" }\n'
        for tier in ("small", "large")
    )
    shared = f'[shared]\npostgres = "{url}"\nname = "{name}"\n' if url else ""
    file = folder / "millrace.toml"
    file.write_text(f'[server]\nport = 0\ndata_dir = "{folder}"\n{models}{shared}')
    return str(file)


def db(command: str, file: str) -> Result:
    return CliRunner().invoke(main, ["db", command, "--config", file])


def test_an_empty_database_is_told_apart_and_upgraded_once(server: SharedServer, tmp_path: Path) -> None:
    file = config(tmp_path, server.url, "one")
    before = db("check", file)
    assert before.exit_code == 1
    assert "has no tables yet" in before.output
    assert "millrace db upgrade" in before.output
    first, second = db("upgrade", file), db("upgrade", file)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "made: ledger" in first.output
    assert "made:" not in second.output
    assert db("check", file).exit_code == 0


def test_what_is_missing_is_named_and_the_days_are_told(server: SharedServer, tmp_path: Path) -> None:
    file = config(tmp_path, server.url, "missing")
    assert db("upgrade", file).exit_code == 0
    assert "no day yet" in db("check", file).output
    today = int(time.time() // 86_400)
    connection = Connection(server.url, "missing")
    make_days(connection, [today - 1])
    assert "that of tomorrow is missing" in db("check", file).output
    make_days(connection, [today, today + 1, today + 2])
    told = db("check", file)
    assert (told.exit_code, "has 4 days, from " in told.output, "missing" in told.output) == (0, True, False)
    connection.execute("DROP INDEX entries_by_time")
    connection.execute("DROP TRIGGER spent_by_added ON entries")
    told = db("check", file)
    assert told.exit_code == 1
    assert "lacks what was made there before: index entries_by_time, trigger spent_by_added;" in told.output
    connection.close()


def test_a_later_version_is_left_alone_and_not_served(server: SharedServer, tmp_path: Path) -> None:
    file = config(tmp_path, server.url, "later")
    assert db("upgrade", file).exit_code == 0
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("INSERT INTO later.schema_steps (number, name) VALUES (1000, 'of later')")
    assert db("upgrade", file).exit_code == 1
    with spawn("server", "serve", "--config", file, cwd=REPOSITORY, stderr=subprocess.PIPE) as process:
        _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "shared.postgres: " in told
    assert "later version" in told


def test_one_that_is_away_is_no_fault_of_the_tables(tmp_path: Path) -> None:
    away = f"postgresql://millrace:{SECRET}@127.0.0.1:{free_port()}/x"
    for command in ("check", "upgrade"):
        ended = db(command, config(tmp_path, away, "away"))
        assert ended.exit_code == 3
        assert "does not answer" in ended.output
        assert SECRET not in ended.output


def test_a_role_without_rights_is_told_so(server: SharedServer, tmp_path: Path) -> None:
    assert db("upgrade", config(tmp_path, server.url, "closed")).exit_code == 0
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA closed TO guest")
    file = config(tmp_path, server.url.replace("millrace@", "guest@"), "closed")
    for command in ("check", "upgrade"):
        ended = db(command, file)
        assert ended.exit_code == 3
        assert "refuses: permission denied for table schema_steps" in ended.output


def test_without_one_it_says_what_to_write(tmp_path: Path) -> None:
    ended = db("check", config(tmp_path, "", ""))
    assert ended.exit_code == 2
    assert "shared.postgres" in ended.output


def test_a_url_that_is_none_is_not_repeated(tmp_path: Path) -> None:
    ended = db("check", config(tmp_path, f"mysql://user:{SECRET}@host/x", "wrong"))
    assert ended.exit_code == 2
    assert "shared.postgres: it is no URL" in ended.output
    assert SECRET not in ended.output


def test_a_copy_to_a_url_that_is_none_does_not_repeat_it(tmp_path: Path) -> None:
    for url in (f"postgresql://user:{SECRET}%@host/x", f"mysql://user:{SECRET}@host/x"):
        ended = CliRunner().invoke(main, ["db", "copy", f"sqlite:{tmp_path}", url])
        assert ended.exit_code == 2
        assert "postgresql:URL" in ended.output
        assert SECRET not in ended.output
