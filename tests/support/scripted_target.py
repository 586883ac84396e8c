"""A server under load that is a few lines of this process, and one whose samples are kept."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

from millrace_client.load.prompts import COMPLETED, Row
from millrace_client.load.sample import Answer, Sample, Target, Timeline

Waits = Callable[[float], list[float]]  # from when a request was received to how long each of its tokens takes


class ScriptedTarget:
    """Answers each request with tokens that come one after the other."""

    losses = 0

    def __init__(self, waits: Waits, clock: Callable[[], float], name: str = "Millrace") -> None:
        self.name = name
        self.received: list[tuple[float, Row]] = []
        self._waits = waits
        self._clock = clock

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Nothing is to be closed."""

    def cancel(self) -> None:
        """It answers soon anyway."""

    async def ask(self, lane: int, row: Row, due: float) -> Sample:
        """Answer after the script's waits."""
        timeline, now = Timeline(due), self._clock()
        timeline.send(now)
        self.received.append((now, row))
        waits = self._waits(now)
        for wait in waits:
            await asyncio.sleep(wait)
            timeline.delta(self._clock())
        answer = Answer(tokens=len(waits), route="small", cache="miss", cost=Decimal("0.001"))
        total = self._clock() - due
        return Sample(row=row, status=COMPLETED, code=None, timeline=timeline, total=total, answer=answer)


class Recording:
    """A server under load whose samples are kept."""

    def __init__(self, target: Target) -> None:
        self.name = target.name
        self.samples: list[Sample] = []
        self.open, self.close, self.cancel = target.open, target.close, target.cancel
        self._target = target

    @property
    def losses(self) -> int:
        return self._target.losses

    async def ask(self, lane: int, row: Row, due: float) -> Sample:
        """Ask, and keep the sample."""
        self.samples.append(sample := await self._target.ask(lane, row, due))
        return sample
