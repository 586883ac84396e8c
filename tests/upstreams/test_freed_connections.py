"""A connection that is free again belongs to whoever takes it next, whatever becomes of the call before."""

import asyncio

import pytest

from millrace.upstreams.exchange import Response
from millrace.upstreams.http1 import Connection
from millrace.upstreams.pushing import PushingConnections
from tests.support.provider import END, HEAD, body, event, listening, says, stay
from tests.support.waiting import PATIENCE_S

ANSWER = HEAD + body(event("Hello")) + END


class Traced:
    """A call of which nothing is wanted but its way."""

    sent = is_reused = False


async def test_a_call_cancelled_once_its_answer_has_come_leaves_the_connection_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one has sent its request on it before the first one notices that it was cancelled."""
    connections, waiting = PushingConnections(), list[asyncio.Task[Response]]()
    received = Connection.data_received
    loop = asyncio.get_running_loop()

    def post() -> asyncio.Task[Response]:
        return loop.create_task(connections.post(url, b"{}", {}, Traced(), connect_timeout_s=5.0, new=False))

    def data_received(self: Connection, data: bytes) -> None:
        if len(waiting) > 1:
            return received(self, data)
        waiting.append(post())  # takes its turn before the first one is woken
        received(self, data)
        waiting[0].cancel()
        return None

    monkeypatch.setattr(Connection, "data_received", data_received)
    async with listening(says(ANSWER, then=stay)) as (provider, address), asyncio.timeout(PATIENCE_S):
        url = f"{address}chat/completions"
        waiting.append(post())
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        said: list[bytes] = []
        response = await waiting[1]

        def take(data: bytes) -> bool:
            said.append(data)
            return False

        await response.push(take)
        assert b"Hello" in b"".join(said)
        assert len(provider.lines) == 1
        connections.close()
