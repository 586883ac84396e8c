"""`python -m tests.bench.generator`: the clients of the benchmark, in a process of their own.

It reads a job a line, does it, and writes a result a line, both as JSON.
"""

import asyncio
import itertools
import json
import resource
import statistics
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import uvloop

from tests.bench import questions
from tests.bench.streams import Stream, Window, opened

PATIENCE_S = 60.0
PING_EVERY_S = 0.02


def percentile(values: "array[float] | list[float]", percent: float) -> float:
    """Return the nearest rank; 0 for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


class Ends:
    """Waits for the end of so many streams."""

    def __init__(self, missing: int) -> None:
        self.all = asyncio.Event()
        self._missing = missing

    def count(self, _: Stream) -> None:
        """Note that one has ended."""
        self._missing -= 1
        if not self._missing:
            self.all.set()


class Generator:
    """The open connections, and the jobs on them."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []

    async def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do one job; return its result, with the share of a core that it took."""
        cpu, began = cpu_s(), time.perf_counter()
        result: dict[str, Any] = await getattr(self, job.pop("do"))(**job)
        lasted = time.perf_counter() - began
        return result | {"lasted_s": lasted, "generator_share": (cpu_s() - cpu) / max(lasted, 1e-9)}

    async def open(
        self, port: int, connections: int, *, negotiated: bool, others: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Open connections, the last of which only pings, to one server after the other if there are others."""
        ports = [port, *others]
        shares = [len(range(number, connections + 1, len(ports))) for number in range(len(ports))]
        dealt = [await opened(to, share, negotiated=negotiated) for to, share in zip(ports, shares, strict=True)]
        self.streams = [stream for turn in itertools.zip_longest(*dealt) for stream in turn if stream is not None]
        return {}

    async def close(self) -> dict[str, Any]:
        """Close all connections."""
        for stream in self.streams:
            stream.transport.abort()
        self.streams = []
        return {}

    async def paced(self, tokens: int, rate: float, ttft_s: float, ramp_s: float, asking: dict[str, Any]) -> Any:
        """Have each connection ask once, spread over the ramp; count between the last start and the first end."""
        *streams, pinging = self.streams
        asked, fields = questions_of(asking), asking["fields"]
        begin = time.perf_counter() + 0.05
        window = Window(begin + ramp_s + ttft_s, begin + ttft_s + tokens / rate)
        ends = Ends(len(streams))
        for stream in streams:
            stream.window, stream.on_end = window, ends.count
        loop = asyncio.get_running_loop()
        origin = loop.time() + 0.05
        for number, stream in enumerate(streams):
            loop.call_at(origin + ramp_s * number / len(streams), partial(stream.ask, next(asked), **fields))
        pinger = loop.create_task(ping(pinging))
        try:
            async with asyncio.timeout(ramp_s + ttft_s + tokens / rate + PATIENCE_S):
                await ends.all.wait()
        finally:
            pinger.cancel()
        due = len(streams) * rate * (window.end - window.begin)
        return {
            "tokens": sum(stream.tokens for stream in streams),
            "delivered": window.tokens / due,
            "gap_p99_ms": 1000 * percentile(window.gaps, 99),
            "ping_p99_ms": 1000 * percentile(pinging.pongs, 99),
        }

    async def burst(self, seconds: float, asking: dict[str, Any]) -> Any:
        """Have each connection ask again at once when it is answered."""
        *streams, _ = self.streams
        asked, fields = questions_of(asking), asking["fields"]
        end = time.perf_counter() + seconds
        firsts = array("d")
        ends = Ends(len(streams))

        def again(stream: Stream) -> None:
            now = time.perf_counter()
            if now < end:
                firsts.append(stream.first_at - stream.asked_at)
                stream.ask(next(asked), **fields)
            else:
                ends.count(stream)

        for stream in streams:
            stream.window, stream.on_end = None, again
            stream.ask(next(asked), **fields)
        async with asyncio.timeout(seconds + PATIENCE_S):
            await ends.all.wait()
        return {
            "asked": len(firsts) + len(streams),
            "per_s": len(firsts) / seconds,
            "first_p50_ms": 1000 * percentile(firsts, 50),
            "first_p99_ms": 1000 * percentile(firsts, 99),
        }

    async def firsts(self, at_once: int, rounds: int, every_s: float, asking: dict[str, Any]) -> Any:
        """Have some connections ask in the same moment, again and again; time their first tokens."""
        streams = self.streams[:at_once]
        asked, fields = questions_of(asking), asking["fields"]
        taken: list[float] = []
        for _ in range(rounds):
            ends = Ends(at_once)
            began = time.perf_counter()
            for stream in streams:
                stream.window, stream.on_end = None, ends.count
                stream.ask(next(asked), **fields)
            async with asyncio.timeout(PATIENCE_S):
                await ends.all.wait()
            taken += [stream.first_at - stream.asked_at for stream in streams]
            await asyncio.sleep(max(0.0, every_s - (time.perf_counter() - began)))
        return {"p50_ms": 1000 * statistics.median(taken), "p99_ms": 1000 * percentile(taken, 99)}


def questions_of(asking: dict[str, Any]) -> Iterator[str]:
    """Return new questions, or the given ones again and again."""
    given = asking.get("again")
    return itertools.cycle(given) if given else questions.new(asking["seed"])


async def ping(stream: Stream) -> None:
    """Ping until cancelled."""
    while True:
        stream.ping()
        await asyncio.sleep(PING_EVERY_S)


def cpu_s() -> float:
    """Return the CPU time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main() -> None:
    """Do jobs until there are no more."""
    reader = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    generator = Generator()
    while line := await reader.readline():
        try:
            result = await generator.do(json.loads(line))
        except (OSError, TimeoutError) as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(main())
