"""The end of a process and of a connection: real processes, told to stop by real signals, in the middle of everything.

`MILLRACE_DRAIN=200x10` has 200 streams on their way, and repeats that ten times; `-s` shows the figures.
"""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from millrace.wire import limits
from tests.support.processes import server_process
from tests.support.raw_http import post_request
from tests.support.slow_client import slow_client
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import TERMINALS, Event, WireClient, check_response, wire_client

STREAMS, TIMES = map(int, os.environ.get("MILLRACE_DRAIN", "40x1").split("x"))
ROOM_S = 2.0  # around the end of the time, where a stream may fit or not
ENOUGH_S = 55.0  # for what takes a moment where nobody else needs the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How one stream ended before its client's eyes."""

    response: Event
    due_at: float  # when its model would have been done
    ended_at: float
    close_code: int | None
    closed_at: float


async def stream(url: str, number: int, tokens: int, rate: float, began: asyncio.Semaphore) -> Seen:
    """Ask for a long answer on a connection of its own, and stay until the server closes it."""
    async with connect(f"{url}/v1/responses", compression=None, max_queue=None, open_timeout=PATIENCE_S) as connection:
        due_at = time.monotonic() + tokens / rate
        question = f"talk {number} [tokens={tokens}] [rate={rate:g}]"
        await connection.send(json.dumps({"type": "response.create", "model": "small", "input": question}))
        while '"response.output_text.delta"' not in await connection.recv():
            pass
        began.release()
        while (event := json.loads(await connection.recv()))["type"] not in TERMINALS:
            pass
        ended_at = time.monotonic()
        await closed(connection)
        response = event["response"]
        assert response["status"] != "completed" or response["usage"]["output_tokens"] == tokens
        return Seen(
            response=response,
            due_at=due_at,
            ended_at=ended_at,
            close_code=connection.close_code,
            closed_at=time.monotonic(),
        )


async def closed(connection: ClientConnection) -> float:
    """Wait until the server closes a connection; return when."""
    async with asyncio.timeout(PATIENCE_S):
        await connection.wait_closed()
    return time.monotonic()


@pytest.mark.timeout(180 * TIMES)
@pytest.mark.parametrize("run", range(TIMES))
async def test_no_stream_that_fits_is_cut(tmp_path: Path, run: int) -> None:
    """The others end as `server_draining`, closes are 1012 and spread, and every cent is in the ledger."""
    rate = 10.0 if STREAMS <= 50 else 5.0
    drain_s, longest = (3.0, 80) if STREAMS <= 50 else (5.0, 60)
    async with server_process(tmp_path, drain_s) as running:
        began = asyncio.Semaphore(0)
        lengths = [2 + (longest - 2) * number // STREAMS for number in range(STREAMS)]
        lengths[-STREAMS // 4 :] = [10 * longest] * (STREAMS // 4)  # late, however long it takes until all have begun
        streams = [
            asyncio.create_task(stream(running.ws_url, number, tokens, rate, began))
            for number, tokens in enumerate(lengths)
        ]
        for _ in streams:
            await began.acquire()
        stopped_at = running.stop()
        seen = await asyncio.gather(*streams)
        status = await running.exited()
        exited_at = time.monotonic()
    by = stopped_at + drain_s
    fitting = [each for each in seen if each.due_at < by - ROOM_S]
    late = [each for each in seen if each.due_at > by + ROOM_S]
    assert fitting
    assert late
    assert {each.response["status"] for each in fitting} == {"completed"}
    assert {(each.response["status"], each.response["error"]["code"]) for each in late} == {("failed", DRAINING)}
    assert max(each.ended_at for each in late) < by + ENOUGH_S
    assert {each.close_code for each in seen} == {1012}
    closes = sorted(each.closed_at - max(each.ended_at, stopped_at + 1) for each in seen)
    assert closes[-1] < limits.LINGER_S + limits.SPREAD_S + ENOUGH_S
    assert min(each.closed_at for each in seen) > stopped_at + 0.9
    assert exited_at - by < limits.LINGER_S + limits.SPREAD_S + ENOUGH_S
    assert status == -signal.SIGTERM
    rows = running.rows()
    assert Counter(row[:2] for row in rows) == Counter(
        (each.response["status"], each.response["error"]["code"] if each.response["error"] else None) for each in seen
    )
    billed = sum(round(each.response["usage"]["cost_usd"] * 1e9) for each in seen)
    assert sum(cost for _, _, cost in rows) == billed > 0
    completed = sum(each.response["status"] == "completed" for each in seen)
    print(  # noqa: T201 - figures for whoever asks
        f"\nrun {run}: {STREAMS} streams, {completed} completed ({len(fitting)} surely fitted), "
        f"{STREAMS - completed} server_draining, closes {closes[0]:.2f} to {closes[-1]:.2f} s after the end or 1 s, "
        f"exit {exited_at - stopped_at:.2f} s after SIGTERM (drain_s {drain_s:g}) with {status}"
    )


DRAINING = "server_draining"
LATE_S = 0.8  # after the signal; connections are open for a second more at least
DRAIN_S = 30.0
SHORT, LONG = "[tokens=20] [rate=10]", "[tokens=400] [rate=10]"  # two seconds; more than there are


@dataclass(frozen=True, slots=True)
class Posted:
    """An answer over HTTP."""

    status: int
    headers: Any
    body: str


async def post(http: aiohttp.ClientSession, url: str, question: str, path: str = "responses", **fields: Any) -> Posted:
    """Ask over HTTP and read to the end."""
    asked = {"input": question} if path == "responses" else {"messages": [{"role": "user", "content": question}]}
    async with http.post(f"{url}/v1/{path}", json={"model": "small"} | asked | fields) as response:
        return Posted(response.status, response.headers, await response.text())


async def get(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as response:
        return response.status


async def test_what_runs_is_finished_and_what_is_new_is_refused(tmp_path: Path) -> None:
    """On WebSockets and over HTTP; health checks tell it; what waits in a lane has its turn."""
    async with (
        server_process(tmp_path, DRAIN_S) as running,
        aiohttp.ClientSession() as http,
        wire_client(running.ws_url, negotiated=True) as client,
        wire_client(running.ws_url) as plain,
        wire_client(running.ws_url) as idle,
    ):
        await client.create("first [tokens=40] [rate=10]", model="small")
        await client.create("second [tokens=3]", model="small")  # waits in the same lane
        await plain.create(f"third {SHORT}", model="small")
        posts = [
            asyncio.create_task(post(http, running.url, f"{number} {SHORT}", path, stream=streamed))
            for number, (path, streamed) in enumerate(WAYS)
        ]
        await until(lambda: running.small.stats.running == 6)
        await client.until("response.output_text.delta")
        stopped_at = running.stop()
        (draining,) = [event for event in await client.until("millrace.draining") if "deadline_ms" in event]
        assert DRAIN_S * 1000 - 500 < draining["deadline_ms"] <= DRAIN_S * 1000
        assert 0 <= draining["reconnect_after_ms"] <= 4000
        for each in (client, plain, idle):
            await each.create("new", stream_id="other", event_id="e1")
        assert await get(http, f"{running.url}/readyz") == 503
        assert await get(http, f"{running.url}/healthz") == 200
        refused = await post(http, running.url, "new")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert json.loads(refused.body)["error"]["code"] == DRAINING
        with pytest.raises(aiohttp.WSServerHandshakeError) as not_upgraded:
            await http.ws_connect(f"{running.url}/v1/responses")
        assert not_upgraded.value.status == 503
        error = (await idle.until("error"))[-1]
        assert (error["status"], error["error"]["code"]) == (503, DRAINING)
        assert (error["stream_id"], error["event_id"]) == ("other", "e1")
        assert not any("millrace" in event["type"] for event in await plain.until(*TERMINALS))
        assert await closed(idle.connection) - stopped_at > 0.9
        for _ in range(2):  # the one that ran, and the one that waited
            assert (await client.until(*TERMINALS))[-1]["response"]["status"] == "completed"
        for answer in await asyncio.gather(*posts):
            assert answer.status == 200
            assert DRAINING not in answer.body
        await closed(client.connection)
        await closed(plain.connection)
        assert {each.connection.close_code for each in (client, plain, idle)} == {1012}
        assert await running.exited() == -signal.SIGTERM
        assert time.monotonic() - stopped_at < DRAIN_S  # nobody waits for the end of the time
    assert Counter(row[:2] for row in running.rows()) == {("completed", None): 7}


WAYS = [("responses", True), ("responses", False), ("chat/completions", True), ("chat/completions", False)]


async def test_what_does_not_fit_is_told_so(tmp_path: Path) -> None:
    """Each in its way: a failed response, a broken stream of chunks, HTTP 503; what never ran is an error."""
    async with (
        server_process(tmp_path, 0.5) as running,
        aiohttp.ClientSession() as http,
        wire_client(running.ws_url) as client,
        wire_client(running.ws_url) as leaver,
    ):
        await client.create(f"first {LONG}", model="small")
        await client.create("second [tokens=3]", model="small", event_id="waits")
        await leaver.create(f"third {LONG}", model="small", millrace={"on_disconnect": "detach"})
        await leaver.until("response.output_text.delta")
        await leaver.connection.close()
        posts = [
            asyncio.create_task(post(http, running.url, f"{number} {LONG}", path, stream=streamed))
            for number, (path, streamed) in enumerate(WAYS)
        ]
        await until(lambda: running.small.stats.running == 6)
        await client.until("response.output_text.delta")
        stopped_at = running.stop()
        terminal, waited = (await client.until(*TERMINALS))[-1], await client.next()
        assert (terminal["type"], terminal["response"]["error"]["code"]) == ("response.failed", DRAINING)
        assert terminal["response"]["usage"]["cost_usd"] > 0
        assert (waited["type"], waited["error"]["code"], waited["event_id"]) == ("error", DRAINING, "waits")
        events, document, chunks, completion = await asyncio.gather(*posts)
        assert (events.status, chunks.status) == (200, 200)
        assert events.body.rstrip().rpartition("\n")[2].startswith('data: {"type":"response.failed"')
        assert chunks.body.rstrip().rpartition("\n")[2].startswith('data: {"error"')
        assert "[DONE]" not in chunks.body
        for answer in (document, completion):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert all(DRAINING in answer.body for answer in (events, document, chunks, completion))
        await closed(client.connection)
        assert await running.exited() == -signal.SIGTERM
        assert time.monotonic() - stopped_at < ENOUGH_S
    assert Counter(row[:2] for row in running.rows()) == {("failed", DRAINING): 6}
    assert all(cost > 0 for _, _, cost in running.rows())


async def test_a_request_on_its_way_is_answered(tmp_path: Path) -> None:
    """Sent shortly before the signal or up to a second after it: by a whole response, or by an error."""
    sockets, stopped_at = 24, 0.0
    async with server_process(tmp_path, 5.0) as running:
        async with asyncio.TaskGroup() as group:
            writable, answered = asyncio.Event(), asyncio.Event()

            async def ask(number: int, client: WireClient) -> str:
                await writable.wait()
                await asyncio.sleep(0.9 * number / sockets)
                sent_at = time.monotonic()
                try:
                    events = await client.ask(f"{number} [tokens=2]", model="small")
                except ConnectionClosed:
                    assert sent_at > stopped_at + LATE_S  # this machine was too slow to ask in time
                    return "late"
                answered.set()
                if events[-1]["type"] != "error":
                    check_response(events)
                await closed(client.connection)
                assert client.connection.close_code == 1012
                return str(events[-1]["type"])

            async def connected(number: int) -> str:
                async with wire_client(running.ws_url) as client:
                    ready.release()
                    return await ask(number, client)

            ready = asyncio.Semaphore(0)
            tasks = [group.create_task(connected(number)) for number in range(sockets)]
            for _ in tasks:
                await ready.acquire()
            writable.set()
            await answered.wait()
            stopped_at = running.stop()
        ends = Counter(task.result() for task in tasks)
        assert ends["response.completed"] > 0
        assert ends["error"] > 0
        assert ends.total() == sockets
        assert await running.exited() == -signal.SIGTERM
    assert Counter(row[0] for row in running.rows()) == {"completed": ends["response.completed"]}


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_now(tmp_path: Path, first: signal.Signals, second: signal.Signals) -> None:
    """With nothing left open, and what was spent written all the same."""
    async with (
        server_process(tmp_path, 300) as running,
        aiohttp.ClientSession() as http,
        wire_client(running.ws_url) as client,
    ):
        await client.create(f"first {LONG}", model="small")
        await client.create(f"waits {LONG}", model="small")
        posted = asyncio.create_task(post(http, running.url, f"second {LONG}", stream=True))
        await until(lambda: running.small.stats.running == 2)
        await client.until("response.output_text.delta")
        running.stop(first)
        async with asyncio.timeout(PATIENCE_S):
            while await get(http, f"{running.url}/readyz") != 503:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        stopped_at = running.stop(second)
        status = await running.exited()
        assert time.monotonic() - stopped_at < ENOUGH_S
        assert status == (-signal.SIGTERM if signal.SIGTERM in (first, second) else 0)
        await closed(client.connection)
        assert client.connection.close_code == 1012
        await asyncio.wait((posted,))
        assert posted.exception() is not None or "response.completed" not in posted.result().body
    rows = running.rows()
    assert sorted(row[0] for row in rows) == ["cancelled"] * 3
    assert sorted(cost > 0 for _, _, cost in rows) == [False, True, True]  # the one that waited never ran


async def test_who_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    """Neither on a WebSocket nor over HTTP; what came to them is in the ledger."""
    flood = {"model": "small", "input": "flood [tokens=100000]", "max_output_tokens": 100_000}
    async with (
        server_process(tmp_path, 0.5) as running,
        slow_client(running.url) as peer,
        slow_client(running.url, post_request("responses", **flood | {"input": "other flood [tokens=100000]"})),
    ):
        peer.send({"type": "response.create"} | flood)
        await until(lambda: running.small.stats.running == 2)
        await asyncio.sleep(1)  # by then nothing moves any more
        stopped_at = running.stop()
        assert await running.exited() == -signal.SIGTERM
        assert time.monotonic() - stopped_at < ENOUGH_S
    assert running.small.stats.aborted == 2
    assert Counter(row[:2] for row in running.rows()) == {("failed", DRAINING): 2}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
async def test_with_nobody_connected_it_ends_at_once(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """However long it might drain."""
    async with server_process(tmp_path, 300) as running, aiohttp.ClientSession() as http:
        assert await get(http, f"{running.url}/readyz") == 200
        stopped_at = running.stop(number)
        assert await running.exited() == status
        assert time.monotonic() - stopped_at < ENOUGH_S
