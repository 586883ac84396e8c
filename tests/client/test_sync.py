"""The client without asyncio, against a whole server that runs in the test's own loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from millrace.wire import responses as wire
from millrace_client import MillraceError, SyncClient
from tests.support.server import Running, Start

HARD = "Prove that the square root of 2 is irrational."


async def test_stream_and_ask(millrace: Running) -> None:
    """The same events and replies as with asyncio; a revise is applied, and an iterator that has ended stays so."""

    def talk() -> None:
        with SyncClient(millrace.url) as client:
            assert client.hello is not None
            assert client.ping() > 0
            stream = client.stream(HARD)
            kinds = [type(event) for event in stream]
            assert (kinds[0], kinds[-1]) == (wire.Created, wire.Completed)
            assert wire.Revise in kinds
            assert stream.ended
            assert list(stream) == []
            assert stream.response is not None
            assert stream.text == stream.response.output_text == stream.reply().text
            assert (stream.reasoning, stream.refusal) == ("", "")
            reply = client.ask(HARD)
            assert (reply.text, reply.cache, reply.cost_usd) == (stream.text, "exact", 0)
            again = client.resume(reply.id)
            assert again.reply().text == reply.text
            assert client.feedback(reply.id, "up").rating == "up"

    await asyncio.to_thread(talk)


async def test_cancel_and_leaving_early(millrace: Running) -> None:
    """Both stop the model; the terminal still comes, with the cost."""

    def talk() -> None:
        with SyncClient(millrace.url) as client:
            stream = client.stream("A long story. [tokens=4000] [rate=200]", cache="off")
            for event in stream:
                if isinstance(event, wire.TextDelta):
                    stream.cancel()
            with client.stream("Another one. [tokens=4000] [rate=200]", cache="off") as left:
                next(left)
            for _ in left:
                pass
            assert (stream.reply().status, left.reply().status) == ("cancelled", "cancelled")
        left.cancel()  # of a client that is closed: nothing to do

    await asyncio.to_thread(talk)


async def test_many_threads_use_one_client(millrace: Running) -> None:
    """Each gets its own answer."""

    def talk() -> list[str]:
        with SyncClient(millrace.url) as client, ThreadPoolExecutor(8) as threads:
            questions = (f"say {number} [tokens=5]" for number in range(40))
            return [reply.status for reply in threads.map(client.ask, questions)]

    assert await asyncio.to_thread(talk) == ["completed"] * 40


async def test_errors_are_raised_where_one_waits(start: Start) -> None:
    """A refused request, a refused connection, a ticket that cannot be fetched, a client that is not open."""

    def refuses() -> str:
        raise OSError("no ticket today")

    def fails(talk: Callable[[], object], error: type[Exception]) -> str:
        with pytest.raises(error) as raised:
            talk()
        return str(raised.value)

    def enter(client: SyncClient) -> None:
        with client:
            pass

    def talk(url: str) -> None:
        with SyncClient(url) as client:
            assert "model" in fails(lambda: client.ask("Hi", model="none"), MillraceError)
            assert client.ask("Hi [tokens=3]").status == "completed"
        assert "not open" in fails(lambda: client.ask("Hi"), RuntimeError)
        assert fails(lambda: enter(SyncClient(url, ticket=refuses)), OSError) == "no ticket today"
        assert fails(lambda: enter(SyncClient("ws://127.0.0.1:1")), OSError)
        assert "not open" in fails(lambda: SyncClient(url).stream("Hi"), RuntimeError)

    async with start() as running:
        await asyncio.to_thread(talk, running.url)
    assert "millrace client" not in {thread.name for thread in threading.enumerate()}
