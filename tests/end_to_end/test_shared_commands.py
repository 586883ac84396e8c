"""Commands beside a replica show the requests of all replicas, from PostgreSQL."""

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from millrace.__main__ import main
from tests.cli.test_db import config
from tests.end_to_end.test_shared_ledger import ask, requests_of
from tests.support.replicas import replicas
from tests.support.shared_servers import SharedServer, postgres_server, with_tables

BUDGET = '[limits.tenant]\ndollars_per_day = "100"\n'


@pytest.fixture(scope="module")
def postgres() -> Iterator[SharedServer]:
    with postgres_server() as server:
        yield server


def command(*arguments: str) -> Result:
    ended = CliRunner(env={"COLUMNS": "250"}).invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    return ended


def lines(told: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.stdout.splitlines()]


async def test_they_show_the_requests_of_all_replicas(postgres: SharedServer, tmp_path: Path) -> None:
    name = with_tables(postgres, "commands")
    folders = [tmp_path / "replica0", tmp_path / "replica1"]
    async with replicas(2, {"postgres": postgres.url, "name": name}, folder=tmp_path) as (one, two):
        await ask(one.url, "What is a millrace?")
        await ask(two.url, "What is a mill wheel?")
        await ask(two.url, "What is a mill wheel?")
        ids = await requests_of(one.url, 3)
        file = config(folders[0], postgres.url, name)
        await asyncio.to_thread(shown, folders, file, ids)


def shown(folders: list[Path], file: str, ids: list[str]) -> None:
    """Look at all commands. With --data-dir each shows that folder alone."""
    with Path(file).open("a") as more:
        more.write(BUDGET)
    of = ("--config", file)
    tail = lines(command("ledger", "tail", "--json", *of))
    assert [row["id"] for row in tail] == ids[::-1]
    alone = [lines(command("ledger", "tail", "--json", "--data-dir", str(folder))) for folder in folders]
    assert [len(rows) for rows in alone] == [1, 2]
    for request in ids:
        assert json.loads(command("explain", request, "--json", *of).stdout)["id"] == request
    levers = json.loads(command("levers", "--json", *of).stdout)
    assert levers["total"]["requests"] == 3
    replayed = json.loads(command("replay", "--json", *of).stdout)
    assert replayed["requests"] == 3
    assert sessions(*of) == 3
    assert sessions("--data-dir", str(folders[0])) == 1
    spent = sum(Decimal(str(row["cost_usd"])) for row in tail)
    (budget,) = lines(command("budgets", "--json", *of))
    assert budget["spent_usd"] == pytest.approx(float(spent))
    assert json.loads(command("evidence", "--json", *of).stdout)["cost"]["requests"] == 0
    assert "Deleted: 2 requests" in command("ledger", "prune", "--keep-days", "0", "--yes", *of).stdout
    assert [row["id"] for row in lines(command("ledger", "tail", "--json", *of))] == ids[:1]
    (still,) = lines(command("budgets", "--json", *of))
    assert still == budget


def sessions(*arguments: str) -> int:
    return sum("$" in line for line in command("sessions", *arguments).stdout.splitlines())


def test_postgresql_that_is_away_is_told(postgres: SharedServer, tmp_path: Path) -> None:
    file = config(tmp_path, postgres.url.replace("127.0.0.1", "127.0.0.2"), "away")
    for words in (["ledger", "tail"], ["levers"], ["sessions"], ["budgets"], ["replay"], ["explain", "resp_1"]):
        ended = CliRunner().invoke(main, [*words, "--config", file])
        assert ended.exit_code == 3, ended.output
        assert "does not answer" in ended.stderr


def test_a_fault_of_what_is_shared_is_told_whatever_else_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "millrace.toml"
    file.write_text('[models.small]\n[shared]\npostgres = "mysql://somewhere"\n')
    ended = CliRunner().invoke(main, ["ledger", "tail", "--config", str(file)])
    assert ended.exit_code == 2
    assert "shared.postgres" in ended.stderr
    assert "models" not in ended.stderr
