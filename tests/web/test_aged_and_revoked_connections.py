"""Connections that have to go while the process goes on: too old, or their key is good no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from websockets.exceptions import ConnectionClosed

from millrace.web.session import Session
from millrace.wire import limits
from tests.support.clock import FreeClock
from tests.support.keys import WITHIN_S, add_key, keys_command
from tests.support.server import Running, Start, process_of
from tests.support.waiting import PATIENCE_S, until, within
from tests.support.wire_client import TERMINALS, WireClient, check_response, wire_client

MAX_AGE_S, DRAIN_S = 300.0, 60.0
SHORT, LONG = "[tokens=8] [rate=10]", "[tokens=400] [rate=10]"


@asynccontextmanager
async def aging(start: Start) -> AsyncIterator[Running]:
    """Run a server whose connections are old once its clock is put ahead."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"max_age_s": MAX_AGE_S, "drain_s": DRAIN_S}

    async with start(change) as running:
        yield running


def session_of(running: Running) -> Session:
    """Return the only one that there is."""
    (session,) = process_of(running).sessions
    assert isinstance(session, Session)
    return session


async def close_code(client: WireClient) -> int | None:
    """Read to the end; a client that does not read sees no close either."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE_S):
            async for _ in client.connection:
                pass
    return client.connection.close_code


async def test_an_old_connection_is_told_finishes_and_goes(start: Start, free_clock: FreeClock) -> None:
    """What runs may end, what is new is refused, and a new connection is welcome."""
    async with aging(start) as running, wire_client(running.ws_url, negotiated=True) as client:
        await client.create(f"first {SHORT}", model="small")
        await until(lambda: running.small.stats.running == 1)
        free_clock.ahead += MAX_AGE_S
        draining = (await client.until("millrace.draining"))[-1]
        since = session_of(running)._liveness.closing.since  # type: ignore[union-attr]
        assert 0 < draining["deadline_ms"] <= DRAIN_S * 1000
        assert draining["reconnect_after_ms"] == 0
        await client.create("second", stream_id="other")
        events = await client.until("error")
        if not any(event["type"] in TERMINALS for event in events):  # it may have ended before
            events += await client.until(*TERMINALS)
        (refused,) = [event for event in events if event["type"] == "error"]
        assert (refused["error"]["code"], refused["stream_id"]) == ("server_draining", "other")
        (ended,) = [event for event in events if event["type"] in TERMINALS]
        assert ended["response"]["status"] == "completed"
        async with wire_client(running.ws_url) as again:
            check_response(await again.ask("second"))
        assert await close_code(client) == 1012
        assert free_clock() >= since + limits.LINGER_S


async def test_what_an_old_connection_cannot_finish_is_failed(start: Start, free_clock: FreeClock) -> None:
    """After the time to drain; what waits behind it never runs, and is told so."""
    async with aging(start) as running, wire_client(running.ws_url) as client:
        await client.create(f"first {LONG}", model="small")
        await client.create("second", event_id="waits")
        await client.send({"type": "millrace.ping"})
        begun = (await client.until("millrace.pong"))[:-1]
        await until(lambda: running.small.stats.running == 1)
        session = session_of(running)
        free_clock.ahead += MAX_AGE_S
        await until(lambda: session._liveness.closing is not None)
        free_clock.ahead += DRAIN_S
        response = check_response(begun + await client.until(*TERMINALS))
        assert (response["status"], response["error"]["code"]) == ("failed", "server_draining")
        refused = await client.next()
        assert (refused["error"]["code"], refused["event_id"]) == ("server_draining", "waits")
        assert await close_code(client) == 1012
        assert running.small.stats.aborted == 1


async def test_what_may_go_on_without_its_connection_goes_on(start: Start, free_clock: FreeClock) -> None:
    """The client takes it up again on another one."""
    tokens = 40
    async with aging(start) as running:
        async with wire_client(running.ws_url, negotiated=True) as client:
            await client.create(f"[tokens={tokens}] [rate=10]", model="small", millrace={"on_disconnect": "detach"})
            events = await client.until("response.output_text.delta")
            response_id = next(event for event in events if "response" in event)["response"]["id"]
            free_clock.ahead += MAX_AGE_S
            await client.until("millrace.draining")
            free_clock.ahead += DRAIN_S
            assert await close_code(client) == 1012
        assert running.small.stats.running == 1
        async with aiohttp.ClientSession() as http:
            url = f"{running.url}/v1/responses/{response_id}"
            async with http.get(f"{url}?stream=true") as answer:
                assert '"status":"completed"' in (await answer.text()).rpartition("data: ")[2]


@asynccontextmanager
async def keyed(start: Start, folder: Path) -> AsyncIterator[Running]:
    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(folder)

    async with start(change) as running:
        yield running


def holding(running: Running, key: str) -> Any:
    return wire_client(running.ws_url, additional_headers={"Authorization": f"Bearer {key}"})


async def test_a_revoked_key_ends_what_it_began(start: Start, tmp_path: Path) -> None:
    """Its sockets close 1008; its requests end, those over HTTP and those that nobody listens to as well."""
    revoked = await asyncio.to_thread(add_key, tmp_path)
    other = await asyncio.to_thread(add_key, tmp_path)
    async with (
        keyed(start, tmp_path) as running,
        holding(running, revoked) as client,
        holding(running, revoked) as idle,
        holding(running, other) as unharmed,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {revoked}"}) as http,
    ):
        await unharmed.create(f"0 {LONG}", model="small")
        await client.create(f"1 {LONG}", model="small")
        await client.create(f"2 {LONG}", model="small", stream_id="d", millrace={"on_disconnect": "detach"})
        asked = {"model": "small", "stream": True}
        streamed = await http.post(f"{running.url}/v1/responses", json=asked | {"input": f"3 {LONG}"})
        message = {"role": "user", "content": f"4 {LONG}"}
        whole = asyncio.create_task(
            http.post(f"{running.url}/v1/chat/completions", json={"model": "small", "messages": [message]})
        )
        await until(lambda: running.small.stats.running == 5)
        await asyncio.to_thread(keys_command, tmp_path, "revoke", revoked)
        async with within(WITHIN_S):
            await until(lambda: running.small.stats.running == 1)
        assert await close_code(client) == await close_code(idle) == 1008
        assert '"reason":"cancelled"' in await streamed.text()
        assert (await whole).status == 499
        await unharmed.send({"type": "response.cancel"})
        assert check_response(await unharmed.until(*TERMINALS))["status"] == "cancelled"
    assert running.small.stats.aborted == 5


async def test_the_first_key_closes_the_open_door(start: Start, tmp_path: Path) -> None:
    """Who came in without a key, while none was needed, has to go."""
    async with keyed(start, tmp_path) as running, wire_client(running.ws_url) as client:
        await client.create(f"1 {LONG}", model="small")
        await client.until("response.output_text.delta")
        await asyncio.to_thread(add_key, tmp_path)
        async with within(WITHIN_S):
            assert await close_code(client) == 1008
        await until(lambda: running.small.stats.running == 0)
