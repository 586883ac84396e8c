"""One round of one target: its memory, its CPU time for paced streams and in a burst, its first tokens."""

import asyncio
import json
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tests.bench import questions
from tests.bench.pace import Pace
from tests.bench.processes import Clients, Measured
from tests.bench.targets import Target

RAMP_S = 1.0
TTFT_S = 0.05
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much of everything one round brings."""

    streams: int = 1000
    tokens: int = 200  # of a paced answer
    rate: float = 20.0
    burst_tokens: int = 100
    burst_connections: int = 64
    burst_s: float = 3.0
    repeated: int = 50  # questions that a server with caches is asked again and again
    singles: int = 30
    at_once: int = 16
    crowds: int = 10


async def set_pace(port: int, pace: Pace) -> None:
    """Tell the provider how to speak from now on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"tokens": pace.tokens, "rate": pace.rate, "ttft_s": pace.ttft_s}).encode()
    writer.write(b"PUT /pace HTTP/1.1\r\nHost: m\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


class Round:
    """Runs the loads against one target that is up."""

    def __init__(self, target: Target, load: Load, clients: Clients, provider: Measured, seed: str) -> None:
        self._target = target
        self._load = load
        self._clients = clients
        self._provider = provider
        self._seed = seed
        self._jobs = 0
        self.busiest = 0.0  # share of a core that the generator and the provider took, at most

    def _asking(self, again: list[str] | None = None) -> dict[str, Any]:
        self._jobs += 1
        return {"seed": f"{self._seed} {self._jobs}", "fields": self._target.fields, "again": again}

    async def run(self, server: Measured, port: int, provider_port: int) -> dict[str, float]:
        """Return the figures of a round."""
        load = self._load
        await set_pace(provider_port, Pace(20))
        await self._clients.do("open", port=port, connections=32, negotiated=self._target.negotiated)
        await self._clients.do("burst", seconds=0.5, asking=self._asking())  # warm up
        await server.rests()
        firsts = {
            f"first_at_{at_once}": await self._clients.do(
                "firsts", at_once=at_once, rounds=rounds, every_s=0.05, asking=self._asking()
            )
            for at_once, rounds in ((1, load.singles), (load.at_once, load.crowds))
        }
        await self._clients.do("close")
        await set_pace(provider_port, Pace(load.burst_tokens))
        await self._clients.do(
            "open", port=port, connections=load.burst_connections, negotiated=self._target.negotiated
        )
        burst = await self._job(server, "burst", seconds=load.burst_s, asking=self._asking())
        await set_pace(provider_port, Pace(1))
        again = [*islice(questions.new(self._seed), load.repeated)] if self._target.caches else None
        await self._clients.do("burst", seconds=0.5, asking=self._asking(again))
        short = await self._job(server, "burst", seconds=load.burst_s, asking=self._asking(again))
        await self._clients.do("close")
        await set_pace(provider_port, Pace(load.tokens, load.rate, TTFT_S))
        await asyncio.sleep(SETTLE_S)
        empty = server.kib
        await self._clients.do("open", port=port, connections=load.streams, negotiated=self._target.negotiated)
        measuring = asyncio.create_task(self._kib_in(server, RAMP_S + load.tokens / load.rate / 2))
        pace = {"tokens": load.tokens, "rate": load.rate, "ttft_s": TTFT_S, "ramp_s": RAMP_S}
        paced = await self._job(server, "paced", **pace, asking=self._asking())
        await self._clients.do("close")
        return {
            "first_p50_ms": firsts["first_at_1"]["p50_ms"],
            f"first_p99_at_{load.at_once}_ms": firsts[f"first_at_{load.at_once}"]["p99_ms"],
            "burst_per_s": burst["per_s"],
            "burst_us_per_request": 1e6 * burst["server_cpu_s"] / burst["asked"],
            "short_per_s": short["per_s"],
            "us_per_token": 1e6 * paced["server_cpu_s"] / paced["tokens"],
            "delivered": paced["delivered"],
            "gap_p99_ms": paced["gap_p99_ms"],
            "ping_p99_ms": paced["ping_p99_ms"],
            "kib_per_stream": (await measuring - empty) / load.streams,
            "server_share": paced["server_cpu_s"] / paced["lasted_s"],
            "others_share": self.busiest,
        }

    async def _kib_in(self, server: Measured, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return server.kib

    async def _job(self, server: Measured, what: str, **job: Any) -> dict[str, Any]:
        """Do a job; add the server's CPU time, and note how busy the other processes were."""
        before, others = server.cpu_s, self._provider.cpu_s
        result = await self._clients.do(what, **job)
        result["server_cpu_s"] = server.cpu_s - before
        share = result["generator_share"] + (self._provider.cpu_s - others) / result["lasted_s"]
        self.busiest = max(self.busiest, share)
        return result
