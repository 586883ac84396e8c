"""What all connections of one process share, and the sweep over them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from millrace.access.gate import Gate
from millrace.funnel.catalog import Catalog
from millrace.funnel.funnel import Funnel
from millrace.memory import MemoryBudget, Tally
from millrace.ports import Clock
from millrace.runs.conversations import Conversations
from millrace.runs.embeddings import Embeddings
from millrace.runs.intake import Intake
from millrace.runs.run import Run
from millrace.runs.runs import Runs
from millrace.runs.sweeper import call_each
from millrace.web.sse import SseResponse

IDLE_BEATS = 8  # of the sweeper, from one sweep of an idle connection to the next


class LiveSession(Protocol):
    """A WebSocket that is open."""

    def sweep(self, now: float) -> None:
        """Do what is due: close, or give up a peer that is stuck."""
        ...

    def start_closing(self, by: float, spread_s: float = 0.0) -> None:
        """Take no new requests; what runs may go on until then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What every connection of this process shares."""

    funnel: Funnel
    catalog: Catalog
    runs: Runs
    intake: Intake
    conversations: Conversations
    clock: Clock
    wall: Clock
    epoch: str
    hand_over: Callable[[], None]  # called when a drain begins; the next process can start then
    gate: Gate
    memory: MemoryBudget
    received: Tally  # frames and bodies of which the rest has not come
    queued: Tally  # requests that wait for their turn, on all connections
    drain_s: float
    max_age_s: float  # of a connection
    stuck_s: float  # how long a peer may take no byte before it is given up
    max_message_bytes: int
    embeddings: Embeddings | None = None  # None: no model for them is configured
    sessions: set[LiveSession] = field(default_factory=set)
    streams: set[SseResponse] = field(default_factory=set)  # over HTTP
    busy: set[LiveSession] = field(default_factory=set)  # those that run something, close or do not keep up
    rounds: list[list[LiveSession]] = field(default_factory=list)  # all sessions, in one part for each beat

    def sweep_all_next(self) -> None:
        """Have every connection swept at the next beat: the keys have changed, and some may be of a revoked one."""
        self.busy.update(self.sessions)

    def sweep(self, now: float) -> None:
        """Sweep all connections, and cancel the requests of revoked keys (PROTOCOL.md, Keys).

        Busy connections are swept at every beat. Idle ones are spread over `IDLE_BEATS`, because thousands of them at
        each beat would cost more than all their pings.
        """
        if not self.rounds:
            waiting = [*self.sessions]
            self.rounds.extend(waiting[beat::IDLE_BEATS] for beat in range(IDLE_BEATS))
        call_each(self.busy.union(self.rounds.pop()) & self.sessions, lambda session: session.sweep(now))
        call_each(tuple(self.streams), lambda stream: stream.sweep(now))
        call_each(self.runs.running, self._end_if_revoked)
        if self.embeddings is not None:
            self.embeddings.end_revoked(self.gate.keyring.is_valid)

    def _end_if_revoked(self, run: Run) -> None:
        if not self.gate.keyring.is_valid(run.request.key_id):
            run.cancel()
