"""Peers that read slowly or not at all: their models wait for them, for a while, and nobody else does."""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from millrace.dialects.event_log import DELTA_SIZE
from millrace.stores.database import FILE
from millrace.web import websocket
from millrace.web.process import Process
from millrace.web.session import Session
from millrace.wire import limits
from tests.support.logs import no_warnings_logged
from tests.support.raw_http import UPGRADE, post_request
from tests.support.server import Running, Start, answers_up_to, paused_at
from tests.support.slow_client import SMALL_BUFFER, slow_client
from tests.support.waiting import PATIENCE_S, until, within
from tests.support.wire_client import TERMINALS, Event, check_response, wire_client

TOKENS = 6000  # thrice what fits into the buffers of all sockets on the way
STUCK_S = 0.8
FLOOD = f"flood [tokens={TOKENS}]"


@pytest.fixture(autouse=True)
def pings_may_go_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow client answers none, and a busy machine takes longer than two of them; what is about them sets its own."""
    monkeypatch.setattr(limits, "HEARTBEAT_S", 600.0)


def with_(folder: Path | None = None, **server: Any) -> Callable[[dict[str, Any]], None]:
    """Edit a configuration: long answers, and what goes into its [server]."""
    return answers_up_to(TOKENS, **server | ({} if folder is None else {"data_dir": str(folder)}))


def process_of(running: Running) -> Process:
    process: Process = next(iter(running.connections)).app_state["process"]
    return process


def session_of(running: Running) -> Session:
    (session,) = process_of(running).sessions
    assert isinstance(session, Session)
    return session


def rows(folder: Path) -> Counter[tuple[str, str | None]]:
    """Count the requests of a ledger by status and code, once the server has ended."""
    with closing(sqlite3.connect(folder / FILE)) as file:
        found = file.execute("SELECT status, code, cost_nanodollars FROM entries").fetchall()
    return Counter((status, code) for status, code, _ in found)


@pytest.mark.untraced
@pytest.mark.parametrize("lanes", [1, 2])
async def test_a_bounded_amount_waits_and_the_models_with_it(start: Start, lanes: int) -> None:
    """However many lanes; another connection is served meanwhile, and who reads on or cancels is heard."""
    async with start(with_()) as running, slow_client(running.url) as peer:
        for lane in range(lanes):
            peer.create(f"{lane} {FLOOD}", stream_id=f"lane-{lane}")
        assert await paused_at(running) < TOKENS * lanes
        outbox = session_of(running)._outbox
        waiting = sum(feed.waiting_bytes for feed in outbox.feeds)
        assert outbox.unsent < limits.SOCKET_BYTES + 32 * 1024
        assert limits.WAITING_BYTES // 2 < waiting < limits.WAITING_BYTES + 64 * 1024
        assert sum(len(feed.event_log._waiting) for feed in outbox.feeds) <= 2 * lanes
        assert all(feed.event_log.response.paused for feed in outbox.feeds)
        async with wire_client(running.ws_url) as client:
            check_response(await client.ask("hello"))
        assert all(feed.event_log.response.paused for feed in outbox.feeds)  # it has waited for none of them
        for lane in range(1, lanes):
            peer.send({"type": "response.cancel", "stream_id": f"lane-{lane}"})
        by_lane: dict[str, list[Event]] = {}
        while sum(events[-1]["type"] in TERMINALS for events in by_lane.values()) < lanes:
            event = await peer.next()
            assert isinstance(event, dict)
            by_lane.setdefault(event["stream_id"], []).append(event)
    ended = {lane: check_response(events) for lane, events in by_lane.items()}
    assert ended.pop("lane-0")["usage"]["output_tokens"] == TOKENS
    assert {response["status"] for response in ended.values()} <= {"cancelled"}
    longest = max(len(event.get("delta", "")) for event in by_lane["lane-0"])
    assert longest > limits.WAITING_BYTES / lanes / 2 / DELTA_SIZE  # merged


async def test_nobody_waits_for_ever_for_a_peer_that_does_not_read(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests end as `slow_consumer`, one that was seen in part and one that was not, and it is closed 1013."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", PATIENCE_S)  # for all that was sent before to be read
    async with start(with_(tmp_path, stuck_s=STUCK_S)) as running, slow_client(running.url) as peer:
        peer.create(FLOOD, stream_id="seen")
        peer.create("not seen [ttft=30]", stream_id="unseen")
        await paused_at(running)
        await until(lambda: running.small.stats.running == 0)
        assert running.small.stats.aborted == 2
        assert (await peer.rest())[-1] == 1013
        await until(lambda: not running.connections)
    assert rows(tmp_path) == {("incomplete", "slow_consumer"): 1, ("failed", "slow_consumer"): 1}


@pytest.mark.parametrize("path", ["responses", "chat/completions"])
async def test_nobody_waits_for_ever_for_a_reader_of_http(start: Start, tmp_path: Path, path: str) -> None:
    """Its model is paused, then its request ends and its connection is dropped, without a word in the log."""
    asked = {"input": FLOOD} if path == "responses" else {"messages": [{"role": "user", "content": FLOOD}]}
    async with start(with_(tmp_path)) as running, no_warnings_logged():
        async with slow_client(running.url, post_request(path, **asked)):
            (stream,) = process_of(running).streams
            await until(lambda: stream.congested)
            assert await paused_at(running) < TOKENS
            assert stream._waiting_bytes < limits.WAITING_BYTES + limits.SOCKET_BYTES
            for later_s in (0, 15, 31):
                assert running.small.stats.running == 1
                stream.sweep(time.monotonic() + later_s)
                await asyncio.sleep(0.05)
            await until(lambda: running.small.stats.running == 0)
            await until(lambda: not running.connections)
        assert running.small.stats.aborted == 1
    assert rows(tmp_path) == {("incomplete", "slow_consumer"): 1}


@pytest.mark.parametrize("over_http", [True, False])
@pytest.mark.usefixtures("free_clock")
async def test_who_reads_slowly_but_reads_is_not_given_up(start: Start, *, over_http: bool) -> None:
    """A few kilobytes at a time, for several times as long as nothing may happen."""
    head = post_request("responses", input=FLOOD) if over_http else UPGRADE
    async with start(with_(stuck_s=STUCK_S)) as running, slow_client(running.url, head) as peer:
        if not over_http:
            peer.create(FLOOD)
        await until(lambda: running.small.stats.running == 1)
        until_ = time.monotonic() + 4 * STUCK_S
        while time.monotonic() < until_:
            await peer.reader.read(SMALL_BUFFER)
            await asyncio.sleep(STUCK_S / 6)
        assert running.small.stats.aborted == 0
        assert next(iter(running.connections)).unsent > 0  # it was slow


async def test_a_slow_listener_does_not_hold_a_fast_one_back(start: Start) -> None:
    """Both on one response, and both get the same events."""
    question, same = FLOOD, {"idempotency_key": "once"}
    async with (
        start(with_(stuck_s=300)) as running,
        slow_client(running.url) as slow,
        wire_client(running.ws_url) as fast,
    ):
        slow.create(question, millrace=same)
        await until(lambda: running.small.stats.running == 1)
        await fast.create(question, model="small", millrace=same)
        events = await fast.until(*TERMINALS)
        assert check_response(events)["usage"]["output_tokens"] == TOKENS
        heard: list[Event | int] = [await slow.next()]
        while heard[-1]["type"] not in TERMINALS:  # type: ignore[index]
            heard.append(await slow.next())
    assert heard == events
    assert running.calls == 1


async def test_a_peer_that_answers_no_ping_is_gone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time between two pings and as long again."""
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.3)
    async with start() as running, slow_client(running.url) as peer:
        peer.create("talk [tokens=900] [rate=5]")
        began = time.monotonic()
        await until(lambda: running.small.stats.running == 1)
        async with within(20):
            await until(lambda: running.small.stats.running == 0)
        assert time.monotonic() - began > 0.4
        assert running.small.stats.aborted == 1  # the answer would take three minutes
        await until(lambda: not running.connections)


async def test_the_last_words_are_waited_for_while_they_are_read(start: Start) -> None:
    """An answer that has ended is still read slowly; the connection is not dropped for asking nothing meanwhile."""
    head = post_request("responses", input="flood [tokens=600]")
    async with start(with_(handshake_timeout_s=STUCK_S)) as running, slow_client(running.url, head) as peer:
        await until(lambda: running.small.stats.finished == 1)
        came, began = b"", time.monotonic()
        while not came.endswith(b"0\r\n\r\n"):
            piece = await peer.reader.read(SMALL_BUFFER)
            assert piece, "cut off"
            came += piece
            await asyncio.sleep(0.05)
        assert b"response.completed" in came
        assert time.monotonic() - began > STUCK_S
        await until(lambda: not running.connections)  # but then it is
