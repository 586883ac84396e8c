"""`millrace cache`: what it shows and deletes, without a server; beside one: tests/caches/test_deleted_entries.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from millrace.caches.embedders.hashing import Hashing
from millrace.caches.exact import SqliteExactCache
from millrace.stores.database import FILE, SqliteDatabase
from tests.support.cache_commands import cache_command
from tests.support.semantic_cache import answer, cache_of, stored

CANCEL, TORTOISE = "How do I cancel order 1001?", "Which vegetables may a tortoise eat?"
SCOPES = {"acme": b"a" * 32, "other": b"b" * 32}
NOW = 1_000.0


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two answers of one tenant and one of another, each in both caches."""
    monkeypatch.setattr("millrace.assembly.opened.WALL", lambda: NOW)
    database = SqliteDatabase(str(tmp_path))
    cache = cache_of(database, Hashing())
    exact = SqliteExactCache(database, ttl_s=60.0, memory_bytes=2**20, disk_bytes=2**20, wall=lambda: NOW)
    for tenant, question in (("acme", CANCEL), ("acme", TORTOISE), ("other", CANCEL)):
        given = answer(f"{tenant}: {question}")
        cache.store(SCOPES[tenant], tenant, question, given)
        exact.store(f"{tenant}{question}".encode(), tenant, given)
    await stored(cache)
    await cache.close()
    database.close()
    return tmp_path


def shown(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    ended = cache_command(folder, *arguments, "--json")
    assert ended.exit_code == 0, ended.output
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def test_it_shows_what_each_tenant_has(folder: Path) -> None:
    printed = cache_command(folder, "stats").stdout
    rows = [[cell.strip() for cell in line.split("│")[1:6]] for line in printed.splitlines() if line.startswith("│")]
    assert [row[:3] for row in rows] == [["acme", "1", "2"], ["other", "1", "1"], ["all", "2", "3"]]
    (acme,) = shown(folder, "stats", "--tenant", "acme")
    assert (acme["semantic_entries"], acme["exact_entries"], acme["oldest_at"]) == (2, 2, NOW)


def test_a_stored_question_is_found_with_what_the_decision_says(folder: Path) -> None:
    found = shown(folder, "search", "How do I cancel order 1002?", "--tenant", "acme")
    assert [each["question"] for each in found] == [CANCEL, TORTOISE]
    assert {each["tenant"] for each in found} == {"acme"}
    printed = cache_command(folder, "search", "How do I cancel order 1002?", "--most", "1").stdout
    assert "numbers differ: 1001 / 1002" in printed
    assert CANCEL in printed
    assert shown(folder, "search", CANCEL, "--scope", SCOPES["other"].hex()[:6])[0]["tenant"] == "other"


def test_an_entry_is_shown_and_deleted_from_both_caches(folder: Path) -> None:
    """And is another tenant's to nobody."""
    entry_id = str(shown(folder, "search", CANCEL, "--tenant", "acme", "--most", "1")[0]["id"])
    printed = cache_command(folder, "show", entry_id).stdout
    for words in (CANCEL, f"acme: {CANCEL}", "semantic, exact", SCOPES["acme"].hex(), "small-model"):
        assert words in printed
    assert cache_command(folder, "show", entry_id, "--tenant", "other").exit_code == 1
    assert cache_command(folder, "delete", entry_id, "--tenant", "other").exit_code == 1
    ended = cache_command(folder, "delete", entry_id)
    assert (ended.exit_code, ended.stdout) == (0, "Deleted: 1 of the semantic cache, 1 of the exact cache.\n")
    again = cache_command(folder, "delete", entry_id)
    assert (again.exit_code, "not stored" in again.stderr) == (1, True)
    assert len(shown(folder, "search", CANCEL)) == 2


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("--tenant", "acme"), {"other"}),
        (("--scope", SCOPES["other"].hex()), {"acme"}),
        (("--tenant", "acme", "--scope", SCOPES["other"].hex()), {"acme", "other"}),
        (("--all",), set()),
    ],
)
def test_a_flush_asks_first_and_takes_what_it_says(folder: Path, options: tuple[str, ...], left: set[str]) -> None:
    refused = cache_command(folder, "flush", *options, typed="n\n")
    assert refused.exit_code == 1
    assert {each["tenant"] for each in shown(folder, "stats")} == {"acme", "other"}
    done = cache_command(folder, "flush", *options, typed="y\n")
    assert done.exit_code == 0
    count = done.stdout.partition("Deleted: ")[2].removesuffix(".\n")
    assert f"Delete {count}?" in refused.stderr
    assert {each["tenant"] for each in shown(folder, "stats")} == left


@pytest.mark.parametrize("options", [(), ("--all", "--tenant", "acme"), ("--scope", "00"), ("--scope", "xy")])
def test_a_flush_must_be_told_what_to_take(folder: Path, options: tuple[str, ...]) -> None:
    assert cache_command(folder, "flush", "--yes", *options).exit_code == 2
    assert len(shown(folder, "stats")) == 2


def test_a_folder_without_a_database_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    ended = cache_command(tmp_path / "new", "stats")
    assert ended.exit_code == 2
    assert "it has no database yet; start a server there first" in ended.stderr
    assert [*tmp_path.iterdir()] == []
    assert "GET /v1/cache/stats" in cache_command(Path(":memory:"), "stats").stderr


def test_a_damaged_database_is_told_from_a_folder_that_cannot_be_written(folder: Path) -> None:
    (folder / FILE).write_bytes(b"no database" * 1000)
    ended = cache_command(folder, "stats")
    assert ended.exit_code == 2
    assert "restore its database from a backup, or move it away" in ended.stderr


def test_a_network_that_fails_is_told_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def decide_all(*_: object) -> None:
        raise RuntimeError("MiniLM has no weights")

    monkeypatch.setattr("millrace.caches.pairs.PairJudge.decide_all", decide_all)
    for ended in (cache_command(folder, "search", CANCEL), cache_command(None, "why", CANCEL, TORTOISE)):
        assert (ended.exit_code, ended.stderr) == (3, "not done: MiniLM has no weights\n")


def test_why_needs_no_server_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each objection is named, with its kind."""
    monkeypatch.chdir(tmp_path)
    ended = cache_command(None, "why", CANCEL, "How do I cancel order 1002?")
    assert ended.exit_code == 0, ended.output
    assert "no" in ended.stdout.splitlines()[0]
    assert "numbers differ: 1001 / 1002" in ended.stdout
    decision = json.loads(cache_command(None, "why", "What is on my calendar?", CANCEL, "--json").stdout)
    assert decision["served"] is False
    assert decision["probability"] is None
