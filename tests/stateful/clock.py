"""An event loop whose clock a test turns by hand: it runs until nothing is left to do, and never sleeps."""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any


class _Turned(selectors.SelectSelector):
    """Where the loop would wait for the world, time leaps to the next timer; past the hour that was set it stops."""

    def __init__(self, leap: Callable[[float | None], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._leap(timeout)
        return []


class HandLoop(asyncio.SelectorEventLoop):
    """No sockets, no threads: only tasks, and timers by a clock that stands still unless it is turned."""

    def __init__(self) -> None:
        self._now = self._until = 1000.0
        super().__init__(_Turned(self._leap))
        self.faults: list[str] = []
        self._made: list[asyncio.Future[Any]] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now

    def create_future(self) -> asyncio.Future[Any]:
        future = super().create_future()
        self._made.append(future)
        return future

    def create_task(self, *args: Any, **options: Any) -> Any:
        task = super().create_task(*args, **options)
        self._made.append(task)
        return task

    @property
    def unheard(self) -> list[asyncio.Future[Any]]:
        """What has failed and was asked by nobody why: in a server each is a traceback on standard error."""
        return [made for made in self._made if made.done() and getattr(made, "_log_traceback", False)]

    def settle(self) -> None:
        """Run until everything waits."""
        self.turn(0)

    def turn(self, seconds: float) -> None:
        """Run until everything waits, so many seconds later."""
        self._until = self._now + seconds
        self.run_forever()

    def _leap(self, timeout: float | None) -> None:
        if timeout is None or self._now + timeout > self._until:
            self._now = self._until
            self.stop()
        else:
            self._now += timeout

    def _note(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        self.faults.append(f"{context['message']}: {error!r}")
