"""Whether this process has stood still: then what it has measured is late, and nobody knows whose fault that was."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

BEAT_S = 0.02
TRIES = 4  # of a run during which the process stands still


class Pulse:
    """Notes when the loop was late by more than `still_s`."""

    def __init__(self, still_s: float) -> None:
        self.stopped_at = -math.inf  # by the clock of the loop; the latest time
        self._still_s = still_s

    async def run(self) -> None:
        """Beat until cancelled."""
        time = asyncio.get_running_loop().time
        while True:
            due = time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            if time() - due > self._still_s:
                self.stopped_at = time()


@asynccontextmanager
async def beating(still_s: float) -> AsyncIterator[Pulse]:
    """Watch the loop."""
    pulse = Pulse(still_s)
    task = asyncio.create_task(pulse.run())
    try:
        yield pulse
    finally:
        task.cancel()
        await asyncio.wait([task])
