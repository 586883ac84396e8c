"""A dashboard that is too slow, whose key is revoked, or whose server ends: it goes, and nobody waits for it."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from millrace.web import live
from millrace.web.drain import drain
from tests.support.frames import validate
from tests.support.keys import add_key, keys_command
from tests.support.raw_http import UPGRADE
from tests.support.server import Running, Start
from tests.support.slow_client import slow_client
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import check_response, wire_client
from tests.web.test_dashboard import LIVE, next_of, watching
from tests.web.test_ledger import asked
from tests.web.test_slow_clients import process_of

STUCK_S = 0.5


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TICK_S", 0.02)


async def test_frames_are_left_out_for_a_slow_peer_and_nobody_waits(
    millrace: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for it is bounded; as it reads on it is told how many frames it has missed."""
    monkeypatch.setattr(live, "IDLE_S", 0.0)
    monkeypatch.setattr(live, "FIGURES_S", 0.0)
    async with slow_client(millrace.url, UPGRADE.replace("/v1/responses", f"{LIVE}?since=6h")) as peer:
        (view,) = process_of(millrace).sessions
        assert isinstance(view, live.View)
        shown = view
        await until(lambda: shown._dropped > 5)
        unsent = view._outbox.unsent
        await until(lambda: shown._dropped > 10)
        assert view._outbox.unsent == unsent
        async with wire_client(millrace.ws_url) as client:
            check_response(await client.ask("hello"))
        missed = 0
        while not missed:
            frame = await peer.next()
            assert isinstance(frame, dict)
            missed = frame.get("dropped", 0)
        assert missed >= 10


async def test_one_that_takes_nothing_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "IDLE_S", 0.0)
    monkeypatch.setattr(live, "FIGURES_S", 0.0)
    async with start(lambda configuration: configuration["server"].update(stuck_s=STUCK_S)) as running:
        async with slow_client(running.url, UPGRADE.replace("/v1/responses", f"{LIVE}?since=6h")):
            await until(lambda: len(process_of(running).sessions) == 1)
            process = process_of(running)
            await until(lambda: not process.sessions)
        await until(lambda: not process.feeds.total())
        assert not process.dashboard.rollups.watchers


async def test_a_revoked_key_ends_it(start: Start, tmp_path: Path) -> None:
    key = await asyncio.to_thread(add_key, tmp_path, "--tenant", "acme", "--role", "admin")
    async with start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running:
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(running.url, headers=headers) as http, watching(http) as socket:
            await next_of(socket, "dashboard.tick")
            await asyncio.to_thread(keys_command, tmp_path, "revoke", key)
            async with asyncio.timeout(PATIENCE_S):
                while (await socket.receive()).type != aiohttp.WSMsgType.CLOSE:
                    pass
            assert socket.close_code == 1008


async def test_a_drain_ends_it_at_once(millrace: Running) -> None:
    async with aiohttp.ClientSession(millrace.url) as http, watching(http) as socket:
        await next_of(socket, "dashboard.tick")
        draining = asyncio.create_task(drain(process_of(millrace)))
        async with asyncio.timeout(PATIENCE_S):
            while (await socket.receive()).type != aiohttp.WSMsgType.CLOSE:
                pass
            await draining
        assert socket.close_code == 1012


async def test_a_browser_comes_with_a_ticket(start: Start, tmp_path: Path) -> None:
    """As to the other WebSocket; frames are as the contract has them."""
    key = await asyncio.to_thread(add_key, tmp_path, "--tenant", "acme", "--role", "admin")
    origin = "https://app.example"

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"].update(data_dir=str(tmp_path), origins=[origin])

    async with start(change) as running, aiohttp.ClientSession(running.url) as page:
        headers = {"Authorization": f"Bearer {key}"}
        async with page.post("/v1/tickets", json={"origin": origin}, headers=headers) as answer:
            ticket = (await answer.json())["ticket"]
        offered = ["millrace.dashboard.v1", f"millrace.ticket.{ticket}"]
        async with page.ws_connect(LIVE, protocols=offered, origin=origin) as socket:
            assert socket.protocol == "millrace.dashboard.v1"
            async with aiohttp.ClientSession(running.url, headers=headers) as http:
                await asked(http, "One?")
            kinds = set[str]()
            while kinds < {"dashboard.hello", "dashboard.figures", "dashboard.tick"}:
                frame = await socket.receive_json()
                kinds.add(frame["type"])
                validate(frame, "sent")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page.ws_connect(LIVE, protocols=offered, origin=origin)
        assert refused.value.status == 401
