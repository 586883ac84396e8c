"""When a WebSocket is to be closed: its key is revoked or rotated, its peer takes nothing, it is old, or all drain."""

import random
from collections.abc import Callable

from msgspec import Struct

from millrace.errors import slow_consumer
from millrace.principal import Principal
from millrace.runs.intake import draining
from millrace.web.jobs import Jobs
from millrace.web.outbox import Outbox
from millrace.web.process import Process
from millrace.wire import limits
from millrace.wire.limits import CloseCode

FLUSH_S = 2.0  # how long a peer may take to read how its requests were ended

Close = Callable[[CloseCode, str], None]


class Closing(Struct):
    """How a connection ends that takes no new requests. All times by the clock."""

    since: float
    by: float  # what runs then is failed
    spread_s: float  # so that not all connections close, and come back, at once
    close_at: float | None = None  # once nothing runs


class Liveness:
    """Watches one connection; the sweeper calls `sweep`."""

    __slots__ = (
        "_announce",
        "_close",
        "_jobs",
        "_moved_at",
        "_opened_at",
        "_outbox",
        "_principal",
        "_process",
        "_unsent",
        "closing",
    )

    def __init__(
        self,
        process: Process,
        outbox: Outbox,
        jobs: Jobs,
        principal: Principal,
        *,
        close: Close,
        announce: "Callable[[Closing], None]",  # called when no new requests are taken any more
    ) -> None:
        self.closing: Closing | None = None
        self._process = process
        self._outbox = outbox
        self._jobs = jobs
        self._principal = principal
        self._close = close
        self._announce = announce
        self._opened_at = process.clock()
        self._unsent, self._moved_at = 0, self._opened_at

    @property
    def is_idle(self) -> bool:
        """Whether a look once in a while is enough: no end is in sight, and the peer keeps up."""
        return self.closing is None and self._outbox.is_writable

    def sweep(self, now: float) -> None:
        """See whether it is time to close, or to give up on a peer that takes nothing."""
        keyring = self._process.gate.keyring
        if not keyring.is_valid(self._principal.key_id):
            self._close(CloseCode.POLICY, "this key is no longer valid")
        elif self.closing is not None:
            self._close_when_idle(self.closing, now)
        elif now - self._opened_at >= self._process.max_age_s or not keyring.may_stay(self._principal):
            self.start_closing(now + self._process.drain_s)
        if self._outbox.is_writable:
            self._moved_at, self._unsent = now, 0
        else:
            self._give_up_if_stuck(now)

    def start_counting(self) -> None:
        """Note that the peer has just stopped to keep up."""
        self._moved_at = self._process.clock()

    def start_closing(self, by: float, spread_s: float = 0.0) -> None:
        """Take no new requests; what runs may go on until then. Only the first call counts."""
        if self.closing is None:
            self.closing = Closing(since=self._process.clock(), by=by, spread_s=spread_s)
            self._announce(self.closing)

    def _close_when_idle(self, closing: Closing, now: float) -> None:
        """Close when nothing runs any more, but not before a request on its way has been answered.

        Detached requests go on: a client can resume them on another connection.
        """
        if not self._jobs.is_empty or self._outbox.unsent:
            if now >= closing.by:
                self._jobs.halt(draining(), also_detached=False)
            if now >= closing.by + FLUSH_S:
                self._close(CloseCode.RESTART, "connect again")
        elif closing.close_at is None:
            closing.close_at = max(closing.since + limits.LINGER_S, now) + random.uniform(0, closing.spread_s)
        elif now >= closing.close_at:
            self._close(CloseCode.RESTART, "connect again")

    def _give_up_if_stuck(self, now: float) -> None:
        """Give up a peer that does not keep up, if it has taken nothing at all for too long."""
        unsent = self._outbox.unsent
        if unsent < self._unsent:
            self._moved_at = now
        self._unsent = unsent
        if now - self._moved_at >= self._process.stuck_s:
            self._jobs.halt(slow_consumer(self._process.stuck_s))
            self._close(CloseCode.SLOW_CONSUMER, "slow consumer")
