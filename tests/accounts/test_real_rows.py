"""Requests on a real server, ended in many ways: each row's levers are exact, and a replay of them is the ledger."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from click.testing import CliRunner, Result

from millrace.__main__ import main
from millrace.assembly.accounts import levers_reports
from millrace.levers import levers_of
from millrace.stores.database import SqliteDatabase
from millrace.stores.past import SqlitePast
from millrace.types import Past
from millrace.wire.levers import LeversReport
from millrace.wire.replay import ReplayReport
from tests.support.paths import REPOSITORY
from tests.support.server import Running, started
from tests.support.waiting import until

REQUESTS, PATIENCE_S = 12, 30.0
WEAK = "Explain the tides of the sea in one word [weak]"


@asynccontextmanager
async def asked_in_many_ways(folder: Path) -> AsyncIterator[Running]:
    """Run a server that has answered one request of each kind, and keeps them in a folder."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(folder)
        configuration["models"]["small"]["tier_prices"] = {"flex": {"input": "0.10", "output": "0.40"}}

    async with started(change) as running, aiohttp.ClientSession(running.url) as session:

        async def ask(text: str, **fields: Any) -> int:
            body = {"model": "auto", "messages": [{"role": "user", "content": text}]} | fields
            async with session.post("/v1/chat/completions", json=body) as answer:
                await answer.read()
                return answer.status

        assert await ask("What is the capital of France?", metadata={"millrace.tag": "night"}, user="ann") == 200
        assert await ask("What is the capital of France?", user="bob") == 200
        assert await ask(WEAK) == 200
        assert await ask("Hello", model="large") == 200
        assert await ask("Who are you?", service_tier="flex") == 200
        assert await ask("What is a millrace?", millrace={"strategy": "race"}) == 200
        assert await ask("Hello there", max_tokens=2) == 200
        assert await ask("Now [fault=status503]", millrace={"strategy": "small"}) >= 400
        chunks = [f"chunk {number} " + "word " * 60 for number in range(20)]
        assert await ask("Hi", millrace={"context": chunks, "context_budget": 200}) == 200
        same = "Tell me of rivers [ttft=0.2] [tokens=30]"
        assert {*await asyncio.gather(ask(same), ask(same))} == {200}
        before = running.small.stats.tokens_sent
        stopped = asyncio.create_task(ask("Count [tokens=3000] [rate=50]"))
        await until(lambda: running.small.stats.tokens_sent > before)
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_S):
            while (await _total(session))["requests"] < REQUESTS:  # noqa: ASYNC110 - only the ledger knows
                await asyncio.sleep(0.05)
        yield running


async def _total(session: aiohttp.ClientSession) -> Any:
    async with session.get("/v1/levers") as answer:
        return (await answer.json())["total"]


async def rows(folder: Path) -> list[Past]:
    """Return all that has ended."""
    database = SqliteDatabase(str(folder))
    past = SqlitePast(database)
    found = await past.read(await past.ended(0.0), stories=True)
    await asyncio.to_thread(database.close)
    return found


def command(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(main, arguments)


async def test_the_levers_of_each_row_add_up_to_what_was_saved(tmp_path: Path) -> None:
    async with asked_in_many_ways(tmp_path):
        found = await rows(tmp_path)
    assert len(found) == REQUESTS
    for row in found:
        each = levers_of(row)
        assert (each.cost, each.saved) == (row.cost, row.saved), row
    kinds = {saving for row in found for saving in levers_of(row).savings}
    wanted = {"trimming", "exact", "join", "routing", "service_tier"}
    assert {kind.value for kind in kinds} >= wanted
    assert {waste.value for row in found for waste in levers_of(row).waste} >= {"revised", "lost", "cancelled"}


async def test_the_report_over_http_is_that_of_the_command(tmp_path: Path) -> None:
    async with asked_in_many_ways(tmp_path) as running, aiohttp.ClientSession(running.url) as session:
        async with session.get("/v1/levers?since=1h&by=user") as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            told = msgspec.json.decode(await answer.read(), type=LeversReport)
        for query, param in (("since=never", "since"), ("by=moon", "by")):
            async with session.get(f"/v1/levers?{query}") as answer:
                assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)
        printed = await asyncio.to_thread(command, "levers", "--by", "user", "--json", "--data-dir", str(tmp_path))
    assert printed.exit_code == 0, printed.output
    assert msgspec.json.decode(printed.stdout, type=LeversReport).groups == told.groups
    total = told.total
    saved, wasted = sum(each.saved_usd for each in total.savings), sum(each.cost_usd for each in total.waste)
    assert abs(total.baseline_usd - saved + wasted - total.cost_usd) < 5e-10
    assert {group.name: group.requests for group in told.groups} == {"(none)": REQUESTS - 2, "ann": 1, "bob": 1}
    exact = next(each for each in total.savings if each.lever == "exact")
    assert exact.requests == 1
    assert exact.saved_usd > 0
    assert exact.saved_ms is not None
    cap = next(each for each in total.savings if each.lever == "cap")
    assert (cap.requests, cap.saved_usd, cap.estimated) == (1, 0.0, True)


async def test_it_is_printed_and_drawn(tmp_path: Path) -> None:
    async with asked_in_many_ways(tmp_path):
        pass
    svg, page = tmp_path / "bill.svg", tmp_path / "bill.html"
    for plot in (svg, page):
        ended = await asyncio.to_thread(command, "levers", "--data-dir", str(tmp_path), "--plot", str(plot))
        assert ended.exit_code == 0, ended.output
    lines = ("all on the large model", "exact cache", "cheaper model", "drafts taken back", "paid", "a cap cut: 1")
    for line in lines:
        assert line in ended.stdout
    assert svg.read_text("utf-8").startswith("<svg")
    assert "</svg>" in page.read_text("utf-8")
    refused = await asyncio.to_thread(command, "levers", "--data-dir", str(tmp_path), "--plot", "bill.png")
    assert refused.exit_code == 2
    assert ".svg or .html" in refused.stderr
    nowhere = await asyncio.to_thread(
        command, "levers", "--data-dir", str(tmp_path), "--plot", str(tmp_path / "no/b.svg")
    )
    assert (nowhere.exit_code, "b.svg" in nowhere.stderr) == (1, True)


async def test_rows_of_an_earlier_version_say_what_they_are_compared_with(tmp_path: Path) -> None:
    async with asked_in_many_ways(tmp_path):
        pass
    database = SqliteDatabase(str(tmp_path))
    database.write(lambda connection: connection.execute("UPDATE entries SET baseline = ''"))
    await asyncio.to_thread(database.close)
    alone = await asyncio.to_thread(command, "levers", "--data-dir", str(tmp_path))
    assert "rows of an earlier version are compared with nothing" in alone.stdout
    config = tmp_path / "millrace.toml"
    text = (REPOSITORY / "millrace.toml").read_text("utf-8")
    config.write_text(re.sub(r"(?m)^#? ?data_dir = .*$", f'data_dir = "{tmp_path}"', text, count=1), "utf-8")
    known = await asyncio.to_thread(command, "levers", "--config", str(config))
    assert "compared with the large model's price of today" in known.stdout, known.output


async def test_nothing_is_an_empty_report(tmp_path: Path) -> None:
    missing = await asyncio.to_thread(command, "levers", "--data-dir", str(tmp_path))
    assert missing.exit_code == 2
    assert "no database yet" in missing.stderr
    database = SqliteDatabase(str(tmp_path))
    await database.ready()
    await asyncio.to_thread(database.close)
    empty = await asyncio.to_thread(command, "levers", "--data-dir", str(tmp_path))
    assert (empty.exit_code, empty.stdout.startswith("No request has ended")) == (0, True)
    config = ("--config", str(REPOSITORY / "millrace.toml"), "--data-dir", ":memory:")
    for name, advice in (("levers", "GET /v1/levers"), ("replay", "name a folder there")):
        in_memory = await asyncio.to_thread(command, name, *config)
        assert (in_memory.exit_code, advice in in_memory.stderr) == (2, True)


async def test_tenants_do_not_meet(tmp_path: Path) -> None:
    async with asked_in_many_ways(tmp_path):
        pass
    async with levers_reports(str(tmp_path), None) as reports:
        assert (await reports.report(0.0, "somebody else")).total.requests == 0
        assert (await reports.report(0.0, "anonymous", "model")).total.requests == REQUESTS


async def test_a_replay_without_a_change_is_the_ledger(tmp_path: Path) -> None:
    async with asked_in_many_ways(tmp_path):
        pass
    arguments = ("replay", "--config", str(REPOSITORY / "millrace.toml"), "--data-dir", str(tmp_path), "--json")
    ended = await asyncio.to_thread(command, *arguments)
    assert ended.exit_code == 0, ended.output
    report = msgspec.json.decode(ended.stdout, type=ReplayReport)
    assert report.happened == report.replayed
    assert (report.requests, report.otherwise) == (REQUESTS, 0)
    paid = sum(row.cost for row in await rows(tmp_path))
    assert round(report.replayed.cost_usd * 1e9) == paid
    assert report.replayed.low_usd == report.replayed.high_usd == report.replayed.cost_usd


async def test_a_replay_without_the_exact_cache_pays_for_its_hit(tmp_path: Path) -> None:
    async with asked_in_many_ways(tmp_path):
        pass
    config = ("--config", str(REPOSITORY / "millrace.toml"), "--data-dir", str(tmp_path))
    ended = await asyncio.to_thread(command, "replay", *config, "--set", "cache.exact=false", "--json")
    assert ended.exit_code == 0, ended.output
    report = msgspec.json.decode(ended.stdout, type=ReplayReport)
    assert (report.happened.exact, report.replayed.exact) == (1, 0)
    assert report.otherwise == 1
    assert report.replayed.estimated_usd > 0
    assert [(each.path, each.now, each.tried) for each in report.settings] == [("cache.exact", "true", "false")]
    shown = await asyncio.to_thread(command, "replay", *config, "--set", "cache.exact=false")
    assert "1 would go another way" in shown.stdout
    assert "is estimated" in shown.stdout


async def test_a_quality_without_judged_pairs_is_the_large_model(tmp_path: Path) -> None:
    async with asked_in_many_ways(tmp_path):
        pass
    config = ("--config", str(REPOSITORY / "millrace.toml"), "--data-dir", str(tmp_path))
    ended = await asyncio.to_thread(command, "replay", *config, "--set", "router.keep_quality=0.95", "--json")
    assert ended.exit_code == 0, ended.output
    report = msgspec.json.decode(ended.stdout, type=ReplayReport)
    assert report.replayed.large_first > report.happened.large_first
    assert report.replayed.large_first + report.replayed.small_first > 0
    assert any("judged pairs of answers: 0" in note for note in report.notes)


async def test_what_cannot_be_replayed_is_refused_by_name(tmp_path: Path) -> None:
    for change, words in (
        ("server.port=1", "server.port: cannot be replayed"),
        ("router.large_shar=0.3", "did you mean router.large_share?"),
        ("router.confidence=0.9", "router.confidence: cannot be replayed"),
        ("cache.exact", "write KEY=VALUE"),
        ("router.large_share=7", "router.large_share"),
    ):
        ended = await asyncio.to_thread(
            command, "replay", "--config", str(REPOSITORY / "millrace.toml"), "--set", change
        )
        assert ended.exit_code == 2
        assert words in ended.stderr, ended.stderr


def test_only_digests_of_what_was_asked_are_kept(tmp_path: Path) -> None:
    """No prompt, no answer and no vector is in a story."""

    async def run() -> list[Past]:
        async with asked_in_many_ways(tmp_path):
            pass
        return await rows(tmp_path)

    for row in asyncio.run(run()):
        story = msgspec.json.encode(row.story).decode()
        assert "France" not in story
        assert "tides" not in story
        assert "Paris" not in story
        if row.story.looked_up is not None:
            assert len(row.story.looked_up.key) == 16
