"""`millrace evidence`: what it prints of what was judged, without a server and beside one."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from millrace.__main__ import main
from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.evidence import SqliteEvidence
from millrace.types import Change, Feedback, Lever, Rating, Steering
from millrace.wire.evidence import EvidenceReport
from tests.support.judged import judged
from tests.support.server import Start, configuration_for

DAY_S = 86_400


def command(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(main, ["evidence", *arguments])


async def kept(folder: Path) -> None:
    """Keep what a server that judges would have kept: hits of two tenants, and more."""
    now = time.time()
    database = SqliteDatabase(str(folder))
    store = SqliteEvidence(database, keep_days=30, wall=time.time)
    hits = [judged(str(number), "same same", scope=b"\xab" * 32, taken_at=now - 60) for number in range(400)]
    old = [judged("old", "different different", scope=b"\xab" * 32, taken_at=now - 10 * DAY_S)]
    other = [judged(f"other{number}", "different", tenant="other", scope=b"\x01", taken_at=now) for number in range(5)]
    checks = [judged("check", "same", lever=Lever.CHECK, detail="unsure", taken_at=now)]
    steering = Steering(strictness=1.5, is_off=True)
    change = Change(at=now, tenant="other", scope=b"\x01", steering=steering, reason="off: 5 hits wrong")
    await store.add([*hits, *old, *other, *checks], [change])
    await store.add_feedback(
        Feedback(tenant="acme", response_id="resp_1", key_id="k", rating=Rating.DOWN, has_better=True, at=now)
    )
    await asyncio.to_thread(database.close)


async def shown(folder: Path, *arguments: str) -> EvidenceReport:
    ended = await asyncio.to_thread(command, "--json", "--data-dir", str(folder), *arguments)
    assert ended.exit_code == 0, ended.output
    return msgspec.json.decode(ended.stdout, type=EvidenceReport)


async def test_it_shows_what_was_judged(tmp_path: Path) -> None:
    await kept(tmp_path)
    ended = await asyncio.to_thread(command, "--data-dir", str(tmp_path))
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()

    def line(*words: str) -> str:
        (found,) = [each for each in lines if all(word in each for word in words)]
        return found

    assert "not known yet" in line("near misses")
    assert "not known yet" in line("small", "the large model said the same")
    assert "at most 1.00 % promised; " in line("semantic hits", "405", "were wrong")
    assert "judged right would keep it" in line("semantic hits")
    assert "100.0 %" in line("unsure", "not known yet") or "100.00 %" in line("unsure", "not known yet")
    assert "serves nothing for now" in line("other", "01", "+1.50")
    assert "kept" not in line("acme", "abababababab")
    assert "not checked yet" in line("judge 2")
    assert "off: 5 hits wrong" in ended.stdout
    assert "Cost to know: $0.0000 for 0 requests" in ended.stdout
    assert "Feedback: 0 up, 1 down, 1 with a better answer." in lines


async def test_it_reports_on_a_period_and_a_tenant(tmp_path: Path) -> None:
    """As a program reads it."""
    await kept(tmp_path)
    week, month = await shown(tmp_path), await shown(tmp_path, "--since", "4w")
    assert (week.semantic.wrong.judged, month.semantic.wrong.judged) == (405, 406)
    assert week.since == pytest.approx(time.time() - 7 * DAY_S, abs=60)
    assert month.semantic.wrong.since == pytest.approx(time.time() - 10 * DAY_S, abs=60)
    acme = await shown(tmp_path, "--tenant", "acme")
    assert (acme.tenant, acme.semantic.wrong.judged, acme.changes, acme.cost) == ("acme", 400, [], None)
    assert acme.semantic.wrong.estimate == 0.0


async def test_before_anything_was_judged_it_says_how_much_is_needed(tmp_path: Path) -> None:
    await asyncio.to_thread(lambda: SqliteDatabase(str(tmp_path)).close())
    ended = await asyncio.to_thread(command, "--data-dir", str(tmp_path))
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.count("not known yet") == 4
    needed = (await shown(tmp_path)).semantic.needed
    assert needed is not None
    assert f"{needed:,} more hits judged right would keep it" in ended.stdout


async def test_it_works_beside_a_server(start: Start, tmp_path: Path) -> None:
    """With the promise of the server's own configuration, and it says if nothing is judged there."""
    await kept(tmp_path)

    def configure(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    async with start(configure):
        assert (await shown(tmp_path)).semantic.wrong.judged == 405
    model = configuration_for("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", data_dir=str(tmp_path))
    config = tmp_path / "millrace.json.toml"
    config.write_text(toml(model | {"evidence": {"judged": False}, "cache": {"max_wrong_hit_rate": 0.05}}), "utf-8")
    ended = await asyncio.to_thread(command, "--config", str(config))
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.startswith("Nothing is judged now: evidence.judged is false.\n")
    assert "at most 5.00 % promised; kept" in ended.stdout


def toml(tree: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    """Write a small tree as TOML."""
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines += [f"{name} = {json.dumps(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    return "\n".join(lines + [toml(value, (*path, name)) for name, value in tree.items() if isinstance(value, dict)])


def test_a_folder_without_a_database_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    ended = command("--data-dir", str(tmp_path / "new"))
    assert ended.exit_code == 2
    assert "it has no database yet; start a server there first" in ended.stderr
    assert [*tmp_path.iterdir()] == []
    assert "GET /v1/evidence" in command("--data-dir", ":memory:").stderr


def test_a_period_that_is_none_is_refused(tmp_path: Path) -> None:
    ended = command("--since", "7 days", "--data-dir", str(tmp_path))
    assert ended.exit_code == 2
    assert "'7 days' is no duration; write how long ago, such as 90m, 12h, 7d or 4w" in ended.stderr


async def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    await kept(tmp_path)
    await asyncio.to_thread((tmp_path / FILE).write_bytes, b"no database" * 1000)
    ended = await asyncio.to_thread(command, "--data-dir", str(tmp_path))
    assert ended.exit_code == 2
    assert "restore its database from a backup, or move it away" in ended.stderr
