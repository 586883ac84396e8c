"""The router through the wire: labels arrive, it says so, and a restart and a kill lose none that were kept."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from click.testing import CliRunner

from millrace.__main__ import main
from millrace.assembly import evidence as wiring
from millrace.funnel.routing.learning import Learning
from millrace.types import LabelSource, Says
from millrace.wire.router import RouterReport
from tests.support.frames import validate_answer
from tests.support.processes import server_process
from tests.support.server import Running, Start, process_of
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import check_response, wire_client
from tests.web.test_cache import told


def report_of(folder: Path) -> RouterReport:
    """Run `millrace router show --json`."""
    ended = CliRunner().invoke(main, ["router", "show", "--json", "--data-dir", str(folder)])
    assert ended.exit_code == 0, ended.output
    return msgspec.json.decode(ended.stdout, type=RouterReport)


def labels(folder: Path) -> dict[str, int]:
    """Return the labels of the only tenant, by source; none if nothing is kept yet."""
    tenants = report_of(folder).tenants
    return {each.source: each.labels for each in tenants[0].sources} if tenants else {}


async def until_kept(folder: Path, source: str, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await asyncio.to_thread(labels, folder)).get(source, 0) < count:  # noqa: ASYNC110 - the disk tells nobody
            await asyncio.sleep(0.2)


async def ask(url: str, first: int, count: int) -> list[dict[str, Any]]:
    """Ask different questions; return the routes."""
    routes = []
    async with wire_client(url, negotiated=True) as client:
        for number in range(first, first + count):
            events = await client.ask(f"Tell me of pond number {number}.", millrace={"cache": "off"})
            check_response(events, negotiated=True)
            routes += [event for event in events if event["type"] == "millrace.route"][:1]
    return routes


async def test_labels_arrive_and_survive_a_restart_and_a_kill(tmp_path: Path) -> None:
    async with server_process(tmp_path, drain_s=0) as running:
        routes = await ask(running.ws_url, 0, 5)
        await until_kept(tmp_path, "check", 5)
        running.stop()
        await running.exited()
    assert "by length first: 0 labels of 300" in routes[0]["reason"]
    assert isinstance(routes[0]["score"], float)
    async with server_process(tmp_path, drain_s=0) as running:
        await ask(running.ws_url, 5, 5)
        await until_kept(tmp_path, "check", 10)
        running.process.send_signal(signal.SIGKILL)
        await running.exited()
    assert (await asyncio.to_thread(labels, tmp_path))["check"] == 10
    async with server_process(tmp_path, drain_s=0) as running:
        await ask(running.ws_url, 10, 1)
        await until_kept(tmp_path, "check", 11)


class SameJudge:
    """Takes all answers for the same."""

    name = "agreeable"

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        return Says.SAME


async def test_pairs_that_were_judged_are_labels(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model's answer is asked of the large one too, and compared."""
    monkeypatch.setattr(wiring, "judges_of", lambda *_: [SameJudge()])

    def configure(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)
        configuration["evidence"] = {"judged": True, "small_share": 1, "large_share": 1, "dollars_per_day": 1000}

    async with start(configure) as running:
        await ask(running.ws_url, 0, 3)
        await until_kept(tmp_path, "shadow", 3)


async def test_an_admin_reads_it_and_a_freeze_is_heeded(start: Start, tmp_path: Path) -> None:
    def configure(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    async with start(configure) as running:
        await ask(running.ws_url, 0, 2)
        await until_kept(tmp_path, "check", 2)
        await read(running)
        await asyncio.to_thread(CliRunner().invoke, main, ["router", "freeze", "--data-dir", str(tmp_path)])
        async with wire_client(running.ws_url):
            learning: Learning = process_of(running).funnel.current.sampling.router.learning
        async with asyncio.timeout(PATIENCE_S):
            while not learning.frozen:  # noqa: ASYNC110 - the disk tells nobody
                await asyncio.sleep(0.05)
        await ask(running.ws_url, 2, 2)
        async with asyncio.timeout(PATIENCE_S):
            while learning.waiting:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
        assert learning.known("anonymous").counts[LabelSource.CHECK].labels == 2


async def read(running: Running) -> None:
    async with aiohttp.ClientSession(running.url) as http:
        status, report = await told(http, "GET", "/v1/router")
    validate_answer("get", "/v1/router", 200, report)
    assert status == 200
    (tenant,) = report["tenants"]
    assert (tenant["tenant"], tenant["by_length"], tenant["frozen"]) == ("anonymous", True, False)
    assert json.dumps(report).count("pond") == 0
