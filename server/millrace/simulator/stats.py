"""The counters of a simulated provider."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields


@dataclass(slots=True)
class Stats:
    """Counters of calls. Invariant: started = finished + aborted + failed + running."""

    started: int = 0
    finished: int = 0
    aborted: int = 0  # the client disconnected before the end
    failed: int = 0  # ended by a requested fault
    running: int = 0
    tokens_sent: int = 0
    input_tokens: int = 0
    last_abort_at: float | None = None  # Unix time, seconds
    last_abort_tokens: int | None = None

    def reset(self) -> None:
        """Reset all counters; running calls still count as started and running."""
        running = self.running
        for field in fields(self):
            setattr(self, field.name, field.default)
        self.started = self.running = running

    @contextmanager
    def call(self) -> Iterator["Call"]:
        """Count one call: as finished, unless it has failed; as aborted if the block raises."""
        call = Call(self)
        try:
            yield call
        except BaseException:
            call.abort()
            raise
        call.finish()


class Call:
    """One running call. The first of finish, fail and abort counts; later ones are ignored."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._tokens = 0
        self._ended = False
        stats.started += 1
        stats.running += 1

    def charge(self, input_tokens: int) -> None:
        """Count the input tokens."""
        self._stats.input_tokens += input_tokens

    def sent(self, tokens: int = 1) -> None:
        """Count output tokens that were sent."""
        self._tokens += tokens
        self._stats.tokens_sent += tokens

    def finish(self) -> None:
        """Count the call as finished."""
        self._stats.finished += self._close()

    def fail(self) -> None:
        """Count the call as failed by a requested fault."""
        self._stats.failed += self._close()

    def abort(self) -> None:
        """Count the call as aborted by its client."""
        if self._close():
            self._stats.aborted += 1
            self._stats.last_abort_at = time.time()
            self._stats.last_abort_tokens = self._tokens

    def _close(self) -> bool:
        """End the call; return whether it was still running."""
        first, self._ended = not self._ended, True
        self._stats.running -= first
        return first
