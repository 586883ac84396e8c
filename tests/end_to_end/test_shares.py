"""Two tenants on one server: one holds everything that it may, the other still gets its answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from millrace.principal import Limits
from tests.support.http_client import CHAT, RESPONSES, body_of
from tests.support.server import Start, process_of
from tests.support.slow_client import SlowClient, slow_client
from tests.support.tenants import Shared, shared_server
from tests.support.waiting import until, within
from tests.support.wire_client import check_response, wire_client

MEBIBYTE = 2**20
ROOM = 64 * MEBIBYTE  # of the process


@pytest.fixture
async def shared(start: Start, tmp_path: Path) -> AsyncIterator[Shared]:
    async with shared_server(start, tmp_path, "loud", "quiet", memory_bytes=ROOM) as running:
        yield running


async def is_served(shared: Shared, tenant: str = "quiet", size: int = 0) -> None:
    """Check that a tenant gets an answer at every door, to a request of so many bytes."""
    options: dict[str, Any] = {"millrace": {"cache": "off"}}
    async with wire_client(shared.running.ws_url, additional_headers=shared.header(tenant)) as client:
        check_response(await client.ask("word " * (size // 5) + "hello", **options))
    async with aiohttp.ClientSession(headers=shared.header(tenant)) as http:
        for path in (RESPONSES, CHAT):
            body = body_of(path, "word " * (size // 5) + "hello", **options)
            async with http.post(shared.running.url + path, json=body) as answer:
                assert answer.status == 200, await answer.text()


def held(shared: Shared, tenant: str) -> int:
    """Return the bytes that a tenant holds of the process's memory."""
    return process_of(shared.running).memory.requests.held(tenant)


async def parts(shared: Shared, clients: AsyncExitStack, size: int) -> SlowClient:
    """Send a part of a frame; return its connection."""
    client = await clients.enter_async_context(slow_client(shared.running.url, shared.upgrade("loud")))
    client.writer.write(bytes((0x81, 0xFF)) + (size * 2).to_bytes(8) + bytes(4) + b"x" * size)
    return client


async def code_of(client: SlowClient) -> Any:
    """Return the code with which a connection is closed; None if that is lost, because the client was still sending."""
    try:
        return (await client.rest())[-1]
    except (ConnectionError, asyncio.IncompleteReadError):
        return None


async def test_frames_in_part_of_one_tenant_do_not_stop_another(shared: Shared) -> None:
    """Those that do not fit into its share are closed with 1013; what is closed is given back."""
    async with AsyncExitStack() as clients:
        sent = [await parts(shared, clients, 3 * MEBIBYTE) for _ in range(20)]
        codes = [asyncio.create_task(code_of(client)) for client in sent]
        await until(lambda: sum(code.done() for code in codes) >= 10)
        await asyncio.sleep(0.3)
        assert {code.result() for code in codes if code.done()} <= {1013, None}
        assert 3 * MEBIBYTE < held(shared, "loud") < ROOM / 2
        await is_served(shared, size=500_000)
        await is_served(shared, "loud")
        for code in codes:
            code.cancel()
        await asyncio.gather(*codes, return_exceptions=True)
    await until(lambda: process_of_or_none(shared) is None or held(shared, "loud") == 0)


def process_of_or_none(shared: Shared) -> object:
    return process_of(shared.running) if shared.running.connections else None


async def test_bodies_in_part_of_one_tenant_do_not_stop_another(shared: Shared) -> None:
    """Those that do not fit are refused as `overloaded`."""
    host, port = shared.running.url.removeprefix("http://").split(":")
    head = f"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: {8 * MEBIBYTE}\r\n"
    head += f"Authorization: {shared.header('loud')['Authorization']}\r\n\r\n"
    opened, answers = [], list[asyncio.Task[bytes]]()

    def refused() -> int:
        return sum(b'"overloaded"' in answer.result() for answer in answers if answer.done())

    try:
        for _ in range(20):
            reader, writer = await asyncio.open_connection(host, int(port))
            opened.append(writer)
            writer.write(head.encode() + b"x" * 3 * MEBIBYTE)
            answers.append(asyncio.create_task(reader.read(4096)))
            await asyncio.wait(answers[-1:], timeout=0.1)
        await until(lambda: refused() > 5)
        assert 3 * MEBIBYTE < held(shared, "loud") < ROOM / 2
        await is_served(shared, size=500_000)
    finally:
        for writer in opened:
            writer.transport.abort()
        await asyncio.gather(*answers, return_exceptions=True)


async def test_what_runs_and_waits_of_one_tenant_does_not_stop_another(shared: Shared) -> None:
    """Large requests that run and that wait, on several connections, until nothing more of it is taken.

    A frame that comes when there is no room for it closes its connection.
    """
    async with AsyncExitStack() as clients:
        for _ in range(3):
            url, header = shared.running.ws_url, shared.header("loud")
            clients.enter_context(suppress(ConnectionClosedError))
            client = await clients.enter_async_context(wire_client(url, additional_headers=header, max_size=None))
            with suppress(ConnectionClosedError):
                for number in range(20):
                    lane = {"stream_id": f"lane{number % 10}", "millrace": {"cache": "off"}}
                    await client.create(f"wait [ttft=60] {number} " + "word " * 80_000, model="small", **lane)
        await until(lambda: held(shared, "loud") > 0.2 * ROOM)
        await asyncio.sleep(1)
        assert held(shared, "loud") < ROOM / 2
        await is_served(shared, size=500_000)
        await is_served(shared, "loud")


async def test_places_are_shared_too(start: Start, tmp_path: Path) -> None:
    """Of requests that run and of connections: one tenant takes half of them, and the next one gets in."""
    async with (
        shared_server(start, tmp_path, "loud", "quiet", max_running=8, max_connections=8) as shared,
        AsyncExitStack() as clients,
    ):
        url = shared.running.ws_url
        codes: list[str] = []
        first = await clients.enter_async_context(wire_client(url, additional_headers=shared.header("loud")))
        for number in range(8):
            await first.create("wait [ttft=60]", stream_id=f"{number}", millrace={"cache": "off"})
        while len(codes) < 4:
            event = await first.next()
            if event["type"] == "error":
                codes.append(event["error"]["code"])
        assert codes == ["overloaded"] * 4
        assert process_of(shared.running).funnel.running == 4
        for _ in range(3):
            await clients.enter_async_context(wire_client(url, additional_headers=shared.header("loud")))
        with pytest.raises(InvalidStatus) as refused:
            await clients.enter_async_context(wire_client(url, additional_headers=shared.header("loud")))
        assert refused.value.response.status_code == 503
        await is_served(shared)


async def test_one_tenant_alone_has_all_places(start: Start, tmp_path: Path) -> None:
    """Whether there are keys or not."""
    async with (
        shared_server(start, tmp_path, "only", max_running=4) as shared,
        wire_client(shared.running.ws_url, additional_headers=shared.header("only")) as client,
    ):
        for number in range(4):
            await client.create("wait [ttft=60]", stream_id=f"{number}", millrace={"cache": "off"})
        await until(lambda: process_of(shared.running).funnel.running == 4)


async def test_long_frames_of_one_tenant_are_read_in_turn_with_those_of_another(shared: Shared) -> None:
    """A dozen that wait for the reading thread delay another tenant by one or two of them; all of them are counted."""
    long = json.dumps({"type": "response.create", "input": "no", "millrace": {"cache": "only"}, "pad": [0] * 240_000})
    long = long[:-1] + ', "more": "' + "x" * MEBIBYTE + '"}'
    assert len(long) > MEBIBYTE
    async with AsyncExitStack() as clients:
        url = shared.running.ws_url
        loud = [
            await clients.enter_async_context(wire_client(url, additional_headers=shared.header("loud")))
            for _ in range(6)
        ]
        quiet = await clients.enter_async_context(wire_client(url, additional_headers=shared.header("quiet")))
        async with within(10):
            for client in loud:
                await client.send(long)
            await until(lambda: held(shared, "loud") >= 2 * len(long))
            answers = [asyncio.create_task(client.until("error", "response.completed")) for client in loud]
            await quiet.send(long)
            await quiet.until("error", "response.failed", "response.completed", "response.incomplete")
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
    await until(lambda: process_of_or_none(shared) is None or held(shared, "loud") == 0)


async def test_what_can_never_fit_the_minute_of_a_key_is_not_to_be_repeated(start: Start, tmp_path: Path) -> None:
    """At every door; both numbers are told."""
    limits = Limits(tokens_per_minute=500)
    async with shared_server(start, tmp_path, "t", limits=limits) as shared:
        async with aiohttp.ClientSession(headers=shared.header("t")) as http:
            for path in (RESPONSES, CHAT):
                async with http.post(shared.running.url + path, json=body_of(path, "word " * 600)) as answer:
                    error = (await answer.json())["error"]
                    assert (answer.status, error["code"]) == (402, "budget_exceeded")
                    assert answer.headers["X-Should-Retry"] == "false"
                    assert "only 500 a minute" in error["message"]
        async with wire_client(shared.running.ws_url, additional_headers=shared.header("t")) as client:
            events = await client.ask("word " * 600)
            assert events[-1]["error"]["code"] == "budget_exceeded"
