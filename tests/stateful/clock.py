"""An event loop with a manual clock: it runs until nothing is left to do, and never sleeps."""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any


class _JumpingSelector(selectors.SelectSelector):
    """Where the loop would wait, the clock jumps to the next timer; past the time that was set, the loop stops."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._jump(timeout)
        return []


class ManualLoop(asyncio.SelectorEventLoop):
    """No sockets, no threads: only tasks, and timers by a clock that a test advances."""

    def __init__(self) -> None:
        self._now = self._until = 1000.0
        super().__init__(_JumpingSelector(self._jump))
        self.faults: list[str] = []
        self._created: list[asyncio.Future[Any]] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now

    def create_future(self) -> asyncio.Future[Any]:
        future = super().create_future()
        self._created.append(future)
        return future

    def create_task(self, *args: Any, **options: Any) -> Any:
        task = super().create_task(*args, **options)
        self._created.append(task)
        return task

    @property
    def unretrieved(self) -> list[asyncio.Future[Any]]:
        """Futures whose exception nobody retrieved: in a server each is a traceback on standard error."""
        return [made for made in self._created if made.done() and getattr(made, "_log_traceback", False)]

    def run_until_idle(self) -> None:
        """Run until everything waits."""
        self.advance(0)

    def advance(self, seconds: float) -> None:
        """Run until everything waits, so many seconds later."""
        self._until = self._now + seconds
        self.run_forever()

    def _jump(self, timeout: float | None) -> None:
        if timeout is None or self._now + timeout > self._until:
            self._now = self._until
            self.stop()
        else:
            self._now += timeout

    def _note(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        self.faults.append(f"{context['message']}: {error!r}")
