"""What a simulated provider counts of its calls."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields


@dataclass(slots=True)
class Stats:
    """Counters of calls; started = finished + aborted + failed + running, always."""

    started: int = 0
    finished: int = 0
    aborted: int = 0  # the client closed before the end
    failed: int = 0  # ended by a fault that was asked for
    running: int = 0
    tokens_sent: int = 0
    input_tokens: int = 0
    last_abort_at: float | None = None
    last_abort_tokens: int | None = None

    def reset(self) -> None:
        """Zero everything, except that calls under way have still been started."""
        running = self.running
        for field in fields(self):
            setattr(self, field.name, field.default)
        self.started = self.running = running

    @contextmanager
    def call(self) -> Iterator["Call"]:
        """Count one call: finished unless it fails, or the block is left by an exception."""
        call = Call(self)
        try:
            yield call
        except BaseException:
            call.abort()
            raise
        call.finish()


class Call:
    """One call under way. The first of finish, fail and abort is what it counts as."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._tokens = 0
        self._over = False
        stats.started += 1
        stats.running += 1

    def charge(self, input_tokens: int) -> None:
        """Count the prompt."""
        self._stats.input_tokens += input_tokens

    def sent(self, tokens: int = 1) -> None:
        """Count tokens that went out."""
        self._tokens += tokens
        self._stats.tokens_sent += tokens

    def finish(self) -> None:
        """The answer is complete."""
        self._stats.finished += self._close()

    def fail(self) -> None:
        """A fault that was asked for ended the call."""
        self._stats.failed += self._close()

    def abort(self) -> None:
        """The client has gone."""
        if self._close():
            self._stats.aborted += 1
            self._stats.last_abort_at = time.time()
            self._stats.last_abort_tokens = self._tokens

    def _close(self) -> bool:
        """Whether this is the end of the call, and not something that came after it."""
        first, self._over = not self._over, True
        self._stats.running -= first
        return first
