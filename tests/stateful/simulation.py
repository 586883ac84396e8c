"""A whole process of the real parts, but for its models, its sockets, its disk and its clock: those a rule steers."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from typing import Any
from unittest.mock import patch

from starlette.requests import Request

from millrace import pricing
from millrace.access.gate import Gate
from millrace.access.keys import Keyring
from millrace.access.tickets import Tickets
from millrace.errors import MillraceError
from millrace.funnel.calls import Caller as Calls
from millrace.funnel.funnel import Funnel
from millrace.funnel.recall import Recall
from millrace.funnel.routing.choice import Policy
from millrace.origins import Origins
from millrace.principal import Key, Limits, Principal, Role
from millrace.runs.conversations import Conversations
from millrace.runs.intake import Intake
from millrace.runs.run import Run
from millrace.runs.runs import Runs
from millrace.runs.sweeper import Sweeper
from millrace.stores.limits import MemoryLimiter
from millrace.types import Model, Tier, Usage
from millrace.web import drain, endpoints
from millrace.web.process import Process
from millrace.web.refusals import refusal
from millrace.web.session import Closed, Session
from millrace.wire.limits import CloseCode
from tests.stateful.clients import Caller, Faults, Listener, Peer
from tests.stateful.clock import HandLoop
from tests.stateful.expectations import Books, answer_of
from tests.stateful.models import HandAttempt, HandUpstream
from tests.stateful.stores import Answers, Rows, Shelf
from tests.support.scripted_models import CATALOG, STOP

WALL = 1_700_000_000.0
BEAT_S = 1.0
MAX_RUNNING = 10
DRAIN_S = 30.0
MAX_AGE_S = 90.0
STUCK_S = 30.0
KEPT_S = 40.0
DETACHED_S = 20.0
TENANTS = ("alpha", "beta")
FREE = Principal(key_id="free", tenant="alpha", role=Role.USE, limits=Limits())
LIMITED = Principal(
    key_id="limited",
    tenant="alpha",
    role=Role.USE,
    limits=Limits(in_flight=3, tokens_per_minute=20_000, dollars_per_day=Decimal("0.1")),
)
OTHER = Principal(key_id="other", tenant="beta", role=Role.USE, limits=Limits())
PRINCIPALS = (FREE, LIMITED, OTHER)

# Bounds that a short sequence reaches too.
BOUNDS = {
    "millrace.wire.limits.SOCKET_BYTES": 4000,
    "millrace.wire.limits.MAX_FRAMES": 30,
    "millrace.wire.limits.WAITING_BYTES": 3000,
    "millrace.web.sse.MAX_PIECE": 4000,
    "millrace.wire.limits.REPLAY_BYTES": 30_000,
    "millrace.runs.runs.MAX_KEPT": 60_000,
    "millrace.wire.limits.KEPT_S": KEPT_S,
    "millrace.wire.limits.DETACHED_S": DETACHED_S,
    "millrace.wire.limits.MAX_RUNNING": 3,
    "millrace.wire.limits.MAX_QUEUED": 6,
}

Endpoint = Callable[[Request], Any]


class World:
    """One process and its clients. `act` lets something happen; what follows from it has happened when it returns."""

    def __init__(self) -> None:
        self._bounds = ExitStack()
        for name, bound in BOUNDS.items():
            self._bounds.enter_context(patch(name, bound))
        self.loop = HandLoop()
        self.books = Books()
        self.faults = Faults()
        self.attempts: list[HandAttempt] = []
        self.peers: list[Peer] = []
        self.callers: list[Caller] = []
        self.rows = Rows()
        self.met: Counter[str] = Counter()  # what has happened, at the end
        self.together = 0  # so many acts more happen at once
        self.apart = 0  # turns of the loop that lie between these
        self._lag = 0
        self._alone = True  # no act waits for others
        self.drain: asyncio.Task[None] | None = None
        clock = self.loop.time
        upstream = HandUpstream(self.attempts)
        self.funnel = Funnel(
            catalog=CATALOG,
            caller=Calls({Tier.SMALL: upstream, Tier.LARGE: upstream}),
            recall=Recall(CATALOG, Answers(), None, ""),
            ledger=self.rows,
            wall=self._wall,
            policy=Policy(context_budget=None, hard_above=3000, grace_ms=200, hedge_ms=300, concise_line="Be brief."),
            max_running=MAX_RUNNING,
        )
        self.runs = Runs(self.funnel, clock, self._wall)
        conversations = Conversations(self.runs, Shelf())
        self.runs.on_end = conversations.remember
        self.limiter = MemoryLimiter(clock, self._wall, {})
        keyring = Keyring(may_be_open=False)
        keyring.replace([Key(principal=one, name="", digest=b"", created_at=WALL) for one in PRINCIPALS])
        self.process = Process(
            funnel=self.funnel,
            catalog=CATALOG,
            runs=self.runs,
            intake=Intake(CATALOG, self.runs, conversations, self.limiter, clock),
            conversations=conversations,
            clock=clock,
            wall=self._wall,
            epoch="epoch-1",
            gate=Gate(keyring, Tickets(clock, keyring.holds), Origins([]), max_connections=1000),
            drain_s=DRAIN_S,
            max_age_s=MAX_AGE_S,
            stuck_s=STUCK_S,
            max_message_bytes=2**20,
        )
        self.sweeper = Sweeper(clock, BEAT_S)
        for tick in (self.funnel.meter, self.runs.sweep, self.process.sweep):
            self.sweeper.add(tick)
        self._sweeping = self.loop.create_task(self.sweeper.run())

    def act(self, *acts: Callable[[], object]) -> bool:
        """Do this, and let all follow from it; False where it happens together with something else."""
        for act in acts:
            self._later(self._lag, act)
        alone, self._alone = self._alone, self.together == 0
        if self.together > 0:
            self.together -= 1
            self._lag += self.apart
            return False
        self._lag = 0
        self.loop.settle()
        self.check()
        return alone

    def collide(self, one: Callable[[], object], other: Callable[[], object], apart: int) -> None:
        """Do two things within so many turns of the loop."""
        self._later(0, one)
        self._later(apart, other)
        self.turn(0)

    def turn(self, seconds: float) -> None:
        """Turn the clock."""
        self.together, self._lag, self._alone = 0, 0, True
        self.loop.turn(seconds)
        self.check()

    def connect(self, principal: Principal, *, negotiated: bool) -> None:
        listener = Listener(self.books, principal.tenant, others_of(principal.tenant), negotiated=negotiated)
        peer = Peer(principal, listener, self.faults, self.loop.time)
        self.peers.append(peer)
        self.act(lambda: self._begin(peer))

    def call(self, caller: Caller, endpoint: Endpoint, body: bytes = b"", query: str = "", **path: str) -> None:
        """Send a request over HTTP."""
        self.callers.append(caller)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [],
            "query_string": query.encode(),
            "path_params": path,
            "state": {"process": self.process, "principal": caller.principal},
        }
        self.act(lambda: self._call(caller, endpoint, scope, body))

    def begin_drain(self) -> None:
        if self.drain is None:
            self.act(self._drain)

    def live(self, question: str) -> list[Run]:
        """Return the runs that ask this."""
        return [run for run in self.runs.running if question_of(run) == question]

    @property
    def sessions(self) -> list[Session]:
        return [session for session in self.process.sessions if isinstance(session, Session)]

    def listeners(self, run: Run) -> int:
        """Return how many clients a run is told to."""
        jobs = [job for session in self.sessions for job in session._jobs._jobs.values()]
        answers = [caller.answer for caller in self.callers if caller.answer is not None]
        return sum(job.run is run for job in jobs) + sum(answer._run is run for answer in answers)

    def check(self) -> None:
        """Fail if anything is amiss now that all waits."""
        assert not self.loop.faults, self.loop.faults
        assert not self.faults, self.faults
        assert not self.rows.faults, self.rows.faults
        for peer in self.peers:
            if peer.task is not None and peer.task.done():
                peer.task.result()
        assert self.funnel.running <= len(self.runs.running) <= self.funnel.running + 1
        calls = Counter(attempt.question for attempt in self.attempts if attempt.is_open)
        for question, count in calls.items():
            wanted = self.live(question)
            assert count <= 2 * len(wanted), f"{count} calls for {len(wanted)} requests: {question}"
        for run in self.runs.running:
            assert run.listeners == self.listeners(run), f"{run.listeners} present, {self.listeners(run)} told"
            self._check_time(run)
        for peer in self.peers:
            since = peer.paused_at if peer.is_here else None
            assert since is None or self.loop.time() - since <= STUCK_S + BEAT_S, "it takes nothing, and is kept"

    def _check_time(self, run: Run) -> None:
        now, deadline = self.loop.time() - BEAT_S, run.request.deadline_at
        assert deadline is None or now <= deadline, "it runs past its deadline"
        assert run.left_at is None or now - run.left_at <= DETACHED_S, "nobody has come back for it, and it runs"

    def end(self, how: str) -> None:
        """Come to an end: the models answer, or all clients leave, or the process drains; nothing may be left."""
        self.together = 0
        self.act(*(peer.read for peer in self.peers), *(caller.reading.set for caller in self.callers))
        if how == "leave":
            self.act(*(lambda peer=peer: peer.leave(abrupt=False) for peer in self.peers if peer.is_here))
            self.act(*(caller.leave for caller in self.callers))
            self.turn(DETACHED_S + 1)
        elif how == "drain":
            self.begin_drain()
        else:
            self._answer_all()
        if self.drain is not None:
            self.turn(DRAIN_S + 5)
            self.turn(5)
            assert self.drain.done(), "the drain does not end"
            self.drain.result()
            for session in self.sessions:  # begun when all was over: the server closes its socket
                session.close(CloseCode.RESTART, "")
            self.turn(0)
            assert all(peer.closed in (1012, 1013) for peer in self.peers if not peer.gone)
        self._check_all_told()
        for caller in self.callers:
            assert caller.task is not None
            assert caller.task.done(), "a request over HTTP has no end"
            assert caller.is_whole or caller.was_slow or not caller.is_here, "an answer over HTTP was cut"
        self.act(*(lambda peer=peer: peer.leave(abrupt=True) for peer in self.peers if peer.is_here))
        self.turn(DETACHED_S + 1)
        self._check_left()
        self._check_books()
        self._take_stock()
        self.turn(KEPT_S + 1)
        assert not self.runs._kept
        assert not self.runs._repeats

    def close(self) -> None:
        """Take the loop down, whatever is still in it."""
        self.loop.settle()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.settle()
        self.loop.close()
        self._bounds.close()

    def _later(self, turns: int, act: Callable[[], object]) -> None:
        self.loop.call_soon(act) if turns == 0 else self.loop.call_soon(self._later, turns - 1, act)

    def _wall(self) -> float:
        return WALL + self.loop.time()

    def _begin(self, peer: Peer) -> None:
        if self.process.gate.draining:
            peer.gone = True
            return
        peer.session = Session(self.process, peer, peer.principal, negotiated=peer.negotiated)
        peer.task = self.loop.create_task(self._serve(peer))

    async def _serve(self, peer: Peer) -> None:
        try:
            await peer.session.run(peer.receive)
        except Closed as end:
            peer.closed = end.code

    def _call(self, caller: Caller, endpoint: Endpoint, scope: dict[str, Any], body: bytes) -> None:
        caller.task = self.loop.create_task(self._answer(caller, endpoint, scope, body))

    async def _answer(self, caller: Caller, endpoint: Endpoint, scope: dict[str, Any], body: bytes) -> None:
        bodies = iter([{"type": "http.request", "body": body}])

        async def receive() -> dict[str, Any]:
            return next(bodies, None) or await caller.receive_end()

        try:
            caller.answer = await endpoint(Request(scope, receive))
            await caller.answer(scope, receive, caller.send)
        except MillraceError as error:
            if error.code == "internal_error":
                self.faults.append(error.message)
            await refusal(error)(scope, receive, caller.send)
        finally:
            caller.answer = None

    def _drain(self) -> None:
        self.drain = self.loop.create_task(drain.drain(self.process))

    def _answer_all(self) -> None:
        for _ in range(1000):
            if not self.runs.running:
                return
            self.turn(0.5)
            self.act(*(lambda each=each: each.say("Yes.", STOP) for each in self.attempts if each.is_open))
        raise AssertionError(f"{self.runs.running} do not end")

    def _take_stock(self) -> None:
        """Note what has happened, so that nobody takes a test for a proof of what it never met."""
        told = [event for telling in self.books.tellings.values() for event in telling.kinds]
        refused = [code for peer in self.peers for code in peer.listener.codes]
        entries = self.rows.entries.values()
        charges = [charge for entry in entries for charge in entry.statement.charges]
        self.met.update(told)
        self.met.update(f"refused {code}" for code in refused)
        self.met.update(f"over HTTP {caller.status}" for caller in self.callers)
        self.met.update(f"ended {entry.status} {entry.code or ''}".strip() for entry in entries)
        self.met.update(f"cache {entry.cache}" for entry in entries)
        self.met.update(f"call {charge.outcome}" for charge in charges)
        self.met.update(f"closed {peer.closed}" for peer in self.peers if peer.closed is not None)
        self.met["calls paid by two"] += len(charges) > len([each for each in self.attempts if each.sent])
        self.met["calls of a conversation"] += sum(
            any(message.role == "assistant" for message in attempt.call.prompt.messages) for attempt in self.attempts
        )
        self.met["told again"] += self.books.again
        self.met["calls that waited for a client"] += sum(attempt.waited for attempt in self.attempts)

    def _check_all_told(self) -> None:
        for peer in self.peers:
            if peer.is_here:
                owed = [each for each in peer.listener.owed if isinstance(each, tuple) or not self._is_late(peer, each)]
                assert not owed, f"neither told to its end nor refused: {owed}"
                assert peer.session._jobs.is_empty, "a job is left in a lane"
                assert not peer.session._jobs._lanes.waiting
                assert not peer.session._jobs._lanes.running

    def _is_late(self, peer: Peer, asked: Any) -> bool:
        telling = self.books.tellings.get((asked.response_id, peer.negotiated))
        told = self.books.told(asked.response_id, negotiated=peer.negotiated)
        return telling is not None and telling.terminal is not None and asked.start == told

    def _check_left(self) -> None:
        assert not self.runs.running, "something still runs"
        assert self.funnel.running == 0
        assert not self.funnel._flights
        assert not self.process.sessions
        assert not self.process.streams
        assert not any(attempt.is_open for attempt in self.attempts), "a call is left open"
        left = [task for task in asyncio.all_tasks(self.loop) if task is not self._sweeping]
        assert not left, f"tasks are left over: {left}"
        assert not self.loop.unheard, self.loop.unheard
        for account in self.limiter._accounts.values():
            assert account.in_flight == account.reserved_tokens == account.reserved_cost == 0

    def _check_books(self) -> None:
        entries = self.rows.entries
        assert not self.rows.open, "a bill is left open"
        documents = [caller.document for caller in self.callers if "status" in caller.document]
        for response in [*self.books.ended, *documents]:
            entry = entries[response["id"]]
            assert entry.tenant == self.books.owners.get(response["id"], entry.tenant)
            assert float(entry.statement.cost) == response["usage"]["cost_usd"]
            assert entry.status == response["status"]
            self._check_answer(response)
        for caller in self.callers:
            self._check_completion(caller)
        for model in CATALOG.models:
            self._check_model(model)
        spent = sum((entry.statement.cost for entry in entries.values() if entry.key_id == LIMITED.key_id), Decimal(0))
        if LIMITED.key_id in self.limiter._accounts:
            assert self.limiter._accounts[LIMITED.key_id].spent == spent

    def _check_model(self, model: Model) -> None:
        """Fail unless what all entries say of a model is what it has charged.

        Of a call that is refused, whoever handed it on before has paid an estimate, which nobody gives back.
        """
        entries = self.rows.entries.values()
        charges = [charge for entry in entries for charge in entry.statement.charges if charge.model == model.id]
        attempts = [attempt for attempt in self.attempts if attempt.call.model is model]
        charged = [attempt.charged for attempt in attempts]
        maybe = [Usage(input_tokens=attempt.asked) for attempt in attempts if attempt.was_refused]
        outputs = sum(charge.usage.output_tokens for charge in charges)
        assert outputs == sum(usage.output_tokens for usage in charged), f"tokens said by {model.id}"
        cost = sum((charge.cost for charge in charges), pricing.ZERO)
        least = sum((pricing.cost(usage, model.price) for usage in charged), pricing.ZERO)
        most = least + sum((pricing.cost(usage, model.price) for usage in maybe), pricing.ZERO)
        assert least <= cost <= most, f"{cost} for {model.id}: not {least} to {most}"

    def _check_answer(self, response: dict[str, Any]) -> None:
        """Fail unless an answer that stands is one that a model gave, whole."""
        reason = (response.get("incomplete_details") or {}).get("reason")
        if response["status"] != "completed" and reason not in ("max_output_tokens", "content_filter"):
            return
        if "millrace.route" not in response["metadata"]:
            assert response["output"] == []
            return
        wanted = {"max_output_tokens": ("length",), "content_filter": ("content_filter",)}
        finishes = wanted.get(str(reason), ("stop", "tool_calls"))
        assert answer_of(response) in self._answers(*finishes), f"no model said so: {response}"

    def _check_completion(self, caller: Caller) -> None:
        """Fail unless a chat completion that has an end is what a model said, whole, and no other does."""
        finish = caller.finish
        if finish is not None:
            wanted = {"stop": ("stop", "tool_calls"), "tool_calls": ("stop", "tool_calls")}.get(finish, (finish,))
            said = [(text, refusal) for text, _, refusal, _ in self._answers(*wanted)]
            assert (caller.text, caller.refusal) in said, f"no model said so: {caller.text!r}"

    def _answers(self, *finishes: str) -> list[tuple[str, str, str, tuple[tuple[str, str], ...]]]:
        return [attempt.answer for attempt in self.attempts if attempt.finish and attempt.finish.reason in finishes]


def question_of(run: Run) -> str:
    """Return what a run asks."""
    return next(message.text for message in reversed(run.request.prompt.messages) if message.role == "user")


def others_of(tenant: str) -> Callable[[str], bool]:
    """Return what tells whether a text has another tenant's words."""
    (other,) = [name for name in TENANTS if name != tenant]
    return lambda text: other in text


def frame_of(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a client's frame; None stands for what is left out."""
    return {"type": kind} | {name: value for name, value in fields.items() if value is not None}


def body_of(frame: dict[str, Any]) -> bytes:
    """Return a create as the body of a POST."""
    return json.dumps({name: value for name, value in frame.items() if name not in ("type", "stream_id")}).encode()


HTTP = {
    "create": endpoints.create_response,
    "complete": endpoints.create_completion,
    "delete": endpoints.delete,
    "retrieve": endpoints.retrieve,
    "cancel": endpoints.cancel,
}
