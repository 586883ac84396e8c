"""`python -m tests.bench.steps`: what each step of a token's way costs in CPU time, without the sockets.

Many streams take turns, a token each, as on a busy server: what one of them needs is rarely in the processor's caches
when its turn comes. A step costs what the way up to its end costs more than the way up to its beginning.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from millrace.dialects.responses import EventCodec, ResponsesProjection
from millrace.funnel.facts import Routed
from millrace.funnel.response_log import ResponseLog
from millrace.types import Call, Delivery, Strategy
from millrace.upstreams.attempt import HttpAttempt, HttpUpstream
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.endpoint import UpstreamEndpoint
from millrace.upstreams.http1 import Connection
from millrace.web.outbox import Feed, Outbox, Turn
from millrace.web.websocket import frame
from tests.support.provider import HEAD, body, event
from tests.support.scripted_models import LARGE, request

ROUNDS, TOKENS = 7, 30  # few enough for one write, where nothing is written
IN_A_TURN = 20  # streams that one turn of the loop has news of
STEPS = (
    ("HTTP: data_received, httptools, on_body", "http"),
    ("event to text: HttpAttempt._take_chunk, Template", "text"),
    ("log: ResponseLog.write, of the flight and of the request", "log"),
    ("events: Projection.text, EventLog.text, Feed.show, DeltaWriter", "events"),
    ("write: Turn, Outbox.flush, frame", "write"),
)


class Writer:
    """Takes frames as a WebSocket does, and drops them."""

    def __init__(self) -> None:
        self.on_pause = self.on_resume = self.on_lost = self.held = self.share = None
        self.unsent, self.is_half_closed = 0, False

    def write_frames(self, payloads: list[bytes]) -> None:
        """Join them to one write."""
        b"".join(map(frame, payloads))

    def is_late(self, _now: float, _patience_s: float) -> bool:
        """Nothing is read."""
        return False


class Transport:
    """A connection to a provider that is never written to."""

    def writelines(self, _data: Any) -> None:
        """Drop it."""

    def abort(self) -> None:
        """Do nothing."""

    def is_closing(self) -> bool:
        """It never is."""
        return False


class Upstream(HttpUpstream):
    """Answers on a connection that is fed by hand."""

    async def post(self, call: Call, body: bytes, attempt: HttpAttempt, *, new: bool) -> Any:
        """Return the response once its head has been fed."""
        exchange = self.connection.ask(b"", body)
        await exchange.begun()
        return exchange

    connection: Connection


async def stream(until: str, turn: Turn, kept: list[Any]) -> Callable[[bytes], None]:
    """Return what takes the bytes of one stream, whose way ends after a step."""
    connection = Connection(lambda _: None, lambda _: None)
    connection.transport = Transport()  # type: ignore[assignment]
    endpoint = UpstreamEndpoint(
        base_url="http://m", api_key=None, connect_timeout_s=9, first_token_timeout_s=9, stall_timeout_s=9
    )
    upstream = Upstream(CHAT, SimpleNamespace(), endpoint, time.monotonic)  # type: ignore[arg-type]
    upstream.connection = connection
    asked = request(strategy=Strategy.LARGE, delivery=Delivery.SPECULATE)
    flight, log = ResponseLog(asked, time.monotonic), ResponseLog(asked, time.monotonic)
    attempt = upstream.open(Call(model=LARGE, prompt=asked.prompt, room=100_000))
    kept += (attempt, log)
    if until in ("log", "events", "write"):
        flight.attach(attempt)
        log.follow(flight, is_joined=False)
    if until in ("events", "write"):
        projection = ResponsesProjection(log, 0, negotiated=True)
        outbox = Outbox(Writer(), turn if until == "write" else SimpleNamespace(add=lambda _: None))  # type: ignore[arg-type]
        kept.append(Feed(projection.event_log, outbox, EventCodec(projection)))
        log.subscribe(projection)
        flight.start()
        flight.route(Routed(strategy=Strategy.LARGE, model="large", reason="asked for"))
    await asyncio.sleep(0)
    connection.data_received(HEAD)
    await asyncio.sleep(0)
    if until == "http":
        exchange = connection._exchange
        assert exchange is not None
        await asyncio.sleep(0)
        exchange._take = lambda _: False
    return connection.data_received


async def cost(until: str, streams: int) -> float:
    """Return the µs a token of the way up to the end of a step, and all before it."""
    turn, kept = Turn(), list[Any]()
    take = [await stream(until, turn, kept) for _ in range(streams)]
    tokens = [body(event(f" word{number % 50}")) for number in range(TOKENS)]
    for each in take:
        each(tokens[0])
    await asyncio.sleep(0)
    gc.collect()
    gc.freeze()
    began = time.thread_time()
    for token in tokens[1:]:
        for at in range(0, streams, IN_A_TURN):
            for each in take[at : at + IN_A_TURN]:
                each(token)
            await asyncio.sleep(0)
    spent = time.thread_time() - began
    gc.unfreeze()
    for each in kept:
        if isinstance(each, HttpAttempt):
            each.task.cancel()
            with suppress(asyncio.CancelledError):
                await each.task
    return 1e6 * spent / (streams * (TOKENS - 1))


async def costs(streams: int) -> list[float]:
    """Return the µs a token of each step: medians of some rounds."""
    ways: dict[str, list[float]] = {step: [] for _, step in STEPS}
    for _ in track(range(ROUNDS), "feeding"):
        for step, spent in ways.items():
            spent.append(await cost(step, streams))
    up_to = [statistics.median(spent) for spent in ways.values()]
    return [after - before for before, after in zip([0.0, *up_to], up_to, strict=False)]


@click.command()
@click.option("--streams", default=1000, show_default=True, help="That take turns.")
def main(streams: int) -> None:
    """Measure what each step of a token's way costs, without the sockets."""
    spent = asyncio.run(costs(streams))
    table = Table("step", "CPU, µs a token", title=f"{streams} streams in turn, medians of {ROUNDS}")
    for (name, _), each in zip(STEPS, spent, strict=True):
        table.add_row(name, f"{each:.1f}")
    table.add_row("all", f"{sum(spent):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
