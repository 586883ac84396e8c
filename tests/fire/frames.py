"""Frames and requests that know the wire: of the published grammar, spoiled, and broken, at a server and its models.

    python -m tests.fire.frames [--frames 200000] [--requests 40000] [--seed N]

Half of the frames are as the contract has them, a third has a fault in it, the others are no JSON any more. They go
over the three WebSockets (Responses, plain and negotiated; the AI SDK's chats; the dashboard), and as requests to
every operation of the OpenAPI document. All that comes back must be in the contract, every request gets one end,
nothing crashes or hangs, and the memory does not grow.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import click
from rich.console import Console

from millrace import app
from tests.fire.asking import ask
from tests.fire.grammar import Frames, Ids, Requests
from tests.fire.report import folder, progress, said
from tests.fire.talking import CHAT, DASHBOARD, RESPONSES, talk
from tests.fire.target import Target, target

AT_ONCE, HTTP_AT_ONCE = 6, 4  # connections
ADDRESSES = (RESPONSES,) * 5 + (CHAT,) * 3 + (DASHBOARD,)
PARTS = 5  # of a run; after the first one memory is not to grow
LEAST = 20_000  # frames, below which it says nothing


async def run(
    frames: int,
    requests: int,
    seed: int,
    data: Path,
    tick: Callable[[int], object] = lambda _: None,
    *,
    parts: int = PARTS,
) -> tuple[Target, Counter[str]]:
    """Send so many; return the target, and what was seen."""
    seen: Counter[str] = Counter()
    ids = Ids()
    async with target(data, with_embeddings) as fired:
        if frames >= LEAST:
            await fired.fill()
        for part in range(parts):
            async with aiohttp.ClientSession(fired.running.url, skip_auto_headers=("Content-Type",)) as http:
                sent = _Sent(frames // parts, requests // parts, tick)
                documents = [await (await http.get(f"/{name}.json")).json() for name in ("asyncapi", "openapi")]

                async def over_sockets(own: Random, sent: _Sent = sent, document: Any = documents[0]) -> None:
                    made = Frames(document, own, ids)
                    while sent.frames > 0:
                        sent.frame(await talk(fired, made, own.choice(ADDRESSES), ids, own, seen))

                async def over_http(
                    own: Random, sent: _Sent = sent, document: Any = documents[1], http: Any = http
                ) -> None:
                    made = Requests(document, own, ids)
                    while sent.requests > 0:
                        sent.request()
                        await ask(fired, http, made.next(), ids, seen)

                randoms = [Random(f"{seed} {part} {at}") for at in range(AT_ONCE + HTTP_AT_ONCE)]
                await asyncio.gather(*map(over_sockets, randoms[:AT_ONCE]), *map(over_http, randoms[AT_ONCE:]))
            await fired.end_part()
        if frames >= LEAST:
            fired.check_drift()
    return fired, seen


class _Sent:
    """What is still to be sent."""

    def __init__(self, frames: int, requests: int, tick: Callable[[int], object]) -> None:
        self.frames, self.requests, self._tick = frames, requests, tick

    def frame(self, count: int) -> None:
        self.frames -= count
        self._tick(count)

    def request(self) -> None:
        self.requests -= 1
        self._tick(1)


def with_embeddings(configuration: dict[str, Any]) -> None:
    """Have the small model's server make embeddings too."""
    configuration["models"]["embeddings"] = {
        "base_url": configuration["models"]["small"]["base_url"],
        "model": "embeddings-model",
        "price": {"input": "0.02"},
    }


@click.command(help=__doc__)
@click.option("--frames", default=200_000, show_default=True, type=click.IntRange(1))
@click.option("--requests", default=40_000, show_default=True, type=click.IntRange(0))
@click.option("--seed", default=1, show_default=True)
def main(frames: int, requests: int, seed: int) -> None:
    """See above."""
    console = Console(file=sys.stderr)
    with (
        folder() as data,
        progress(console, frames + requests) as tick,
        asyncio.Runner(loop_factory=app.new_loop) as runner,
    ):
        fired, seen = runner.run(run(frames, requests, seed, data, tick))
    raise SystemExit(said(fired, seen, f"{frames:,} frames, {requests:,} requests over HTTP, seed {seed}"))


if __name__ == "__main__":
    main()
