"""Frames and requests that know the wire: of the published grammar, spoiled, and broken, at a server and its models.

    python -m tests.fire.frames [--frames 200000] [--requests 40000] [--seed N]

Half of the frames are as the contract has them, a third has a fault in it, the others are no JSON any more. They go over
the three WebSockets (Responses, plain and negotiated; the AI SDK's chats; the dashboard), and as requests to every
operation of the OpenAPI document. All that comes back must be in the contract, every request gets one end, nothing
crashes or hangs, and the memory does not grow.
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
from tests.fire.stage import Stage, stage
from tests.fire.talking import CHAT, DASHBOARD, RESPONSES, talk

AT_ONCE, HTTP_AT_ONCE = 6, 4  # connections
ADDRESSES = (RESPONSES,) * 5 + (CHAT,) * 3 + (DASHBOARD,)
WARM = 0.2  # of a run, after which memory is not to grow


async def run(
    frames: int, requests: int, seed: int, data: Path, tick: Callable[[int], object] = lambda _: None
) -> tuple[Stage, Counter[str], float | None]:
    """Send so many; return the stage, what was seen, and by which share the memory has grown since it was warm."""
    seen: Counter[str] = Counter()
    ids, drift = Ids(), None
    async with stage(data, with_embeddings) as fired:
        for number, share in enumerate((WARM, 1 - WARM)):
            async with aiohttp.ClientSession(fired.running.url, skip_auto_headers=("Content-Type",)) as http:
                sent = _Sent(round(frames * share), round(requests * share), tick)
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

                randoms = [Random(f"{seed} {number} {at}") for at in range(AT_ONCE + HTTP_AT_ONCE)]
                await asyncio.gather(*map(over_sockets, randoms[:AT_ONCE]), *map(over_http, randoms[AT_ONCE:]))
            await fired.check_nothing_left()
            if number == 0:
                fired.warm()
            elif frames >= 20_000:
                drift = fired.check_drift()
    return fired, seen, drift


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
    with folder() as data, progress(console, frames + requests) as tick:
        with asyncio.Runner(loop_factory=app.new_loop) as runner:
            fired, seen, drift = runner.run(run(frames, requests, seed, data, tick))
    raise SystemExit(said(fired, seen, drift, f"{frames:,} frames, {requests:,} requests over HTTP, seed {seed}"))


if __name__ == "__main__":
    main()
