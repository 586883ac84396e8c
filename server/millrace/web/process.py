"""What all connections of one process share, and the sweep over them."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field
from starlette.requests import Request

from millrace.access.gate import Gate
from millrace.accounts.dashboard.dashboard import Dashboard
from millrace.accounts.reports import LeversReports
from millrace.batches.batches import Batches
from millrace.evidence.report import Reports
from millrace.funnel.funnels import Funnels
from millrace.funnel.routing.report import RouterReports
from millrace.funnel.shared_flights import SharedFlights
from millrace.memory import MemoryBudget
from millrace.ports import Backlog, CacheControl, Clock, Rows
from millrace.ports.replicas import NO_STORES, Stores
from millrace.principal import Principal
from millrace.runs.conversations import Conversations
from millrace.runs.embeddings import Embeddings
from millrace.runs.feedback import Feedbacks
from millrace.runs.intake import Intake
from millrace.runs.run import Run
from millrace.runs.runs import Runs
from millrace.runs.sweeper import Rounds, call_each
from millrace.telemetry.metrics import Metrics
from millrace.web.chats import Chats
from millrace.web.outbox import Turn
from millrace.web.sse import SseResponse
from millrace.wire.documents import Configuration
from millrace.wire.reload import Reloaded

if TYPE_CHECKING:
    from millrace.web.elsewhere import Elsewhere


class LiveSettings(Protocol):
    """The settings of the process."""

    @property
    def state(self) -> Configuration:
        """By which settings it runs."""
        ...

    async def reload(self, *, tells: bool = True) -> Reloaded:
        """Read the configuration anew. With faults nothing changes. `tells`: other workers do the same."""
        ...


class LiveSession(Protocol):
    """A WebSocket that is open."""

    def sweep(self, now: float) -> None:
        """Do what is due: close, or give up a peer that is stuck."""
        ...

    def start_closing(self, by: float, spread_s: float = 0.0) -> None:
        """Take no new requests; what runs may go on until then."""
        ...


class OnItsWay(Protocol):
    """A request over HTTP whose run has not begun."""

    def sweep(self, now: float) -> None:
        """Give it up if it is too slow, or its client has gone."""
        ...


class Process(Struct, frozen=True, kw_only=True):
    """What every connection of this process shares."""

    funnel: Funnels
    runs: Runs
    intake: Intake
    conversations: Conversations
    clock: Clock
    wall: Clock
    epoch: str
    hand_over: Callable[[], None]  # called when a drain begins; the next process can start then
    gate: Gate
    backlog: Backlog
    memory: MemoryBudget
    drain_s: float
    max_age_s: float  # of a connection
    stuck_s: float  # how long a peer may take no byte before it is given up
    max_message_bytes: int
    cache: CacheControl
    ledger: Rows
    feedbacks: Feedbacks
    reports: Reports
    router_reports: RouterReports
    settings: LiveSettings
    batches: Batches
    levers: LeversReports
    dashboard: Dashboard
    embeddings: Embeddings
    chats: Chats
    elsewhere: "Elsewhere | None" = None  # None: there are no other replicas
    flights: SharedFlights | None = None  # that are shared with them
    stores: Stores = NO_STORES
    feeds: Counter[str] = field(default_factory=Counter)  # dashboards that are open, by tenant
    metrics: Metrics = field(default_factory=Metrics)
    sessions: set[LiveSession] = field(default_factory=set)
    arrivals: set[OnItsWay] = field(default_factory=set)  # over HTTP
    streams: set[SseResponse] = field(default_factory=set)  # over HTTP
    busy: set[LiveSession] = field(default_factory=set)  # those that close or do not keep up
    turn: Turn = field(default_factory=Turn)
    rounds: Rounds[LiveSession] = field(default_factory=Rounds)
    run_rounds: Rounds[Run] = field(default_factory=Rounds)

    def sweep_all_next(self) -> None:
        """Have every connection and every run looked at at the next beat: the keys have changed."""
        self.rounds.rush()
        self.run_rounds.rush()

    def sweep(self, now: float) -> None:
        """Sweep all connections, and cancel the requests of revoked keys (PROTOCOL.md, Keys).

        Connections that close, or whose peers do not keep up, are swept at every beat, the others in turn.
        """
        self.busy.intersection_update(self.sessions)  # one that ends may have written its last
        due = self.busy.union(self.rounds.next(self.sessions)) & self.sessions
        call_each(due, lambda session: session.sweep(now))
        call_each(tuple(self.arrivals), lambda arrival: arrival.sweep(now))
        call_each(tuple(self.streams), lambda stream: stream.sweep(now))
        call_each(self.run_rounds.next(self.runs.running), self._end_if_revoked)
        self.embeddings.end_revoked(self.gate.keyring.is_valid)

    def _end_if_revoked(self, run: Run) -> None:
        if not self.gate.keyring.is_valid(run.request.key_id):
            run.cancel()


def process_of(request: Request) -> Process:
    """Return what the connections of the process that serves a request share."""
    process: Process = request.state.process
    return process


def principal_of(request: Request) -> Principal:
    """Return who asks."""
    principal: Principal = request.state.principal
    return principal
