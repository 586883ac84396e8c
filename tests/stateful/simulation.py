"""A whole process of the real parts; models, sockets, disk and clock are replaced by ones that a rule controls."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from typing import Any, cast
from unittest.mock import patch

from starlette.requests import Request

from millrace import pricing
from millrace.access.gate import Gate
from millrace.access.keys import Keyring
from millrace.access.origins import Origins
from millrace.access.tickets import Tickets
from millrace.errors import MillraceError
from millrace.funnel.funnels import Funnels
from millrace.funnel.routing.router import Router
from millrace.memory import MemoryBudget, Shares
from millrace.principal import Key, Limits, Principal, Role
from millrace.runs.conversations import Conversations
from millrace.runs.embeddings import Embeddings
from millrace.runs.intake import Intake
from millrace.runs.run import Run
from millrace.runs.runs import Runs
from millrace.runs.sweeper import Sweeper
from millrace.stores.limits import MemoryLimiter
from millrace.types import Model, Usage
from millrace.web import drain, endpoints
from millrace.web.chats import Chats
from millrace.web.messages import create_message
from millrace.web.process import Process
from millrace.web.refusals import refusal
from millrace.web.session import Session
from millrace.web.socket_session import Closed
from millrace.wire.limits import CloseCode
from tests.stateful.clients import ConnectionChecker, Faults, HttpClient, WebSocketClient
from tests.stateful.clock import ManualLoop
from tests.stateful.expectations import Received, answer_of
from tests.stateful.models import ManualAttempt, ManualUpstream, funnel_of
from tests.stateful.stores import MemoryArchive, MemoryExactCache, MemoryLedger, RoomyDisk
from tests.support.inline_schemas import InlineSchemas
from tests.support.scripted_models import CATALOG, STOP

WALL = 1_700_000_000.0
BEAT_S = 1.0
CALLS = 3  # that may run for one request: a hedge's, of the small model twice and of the large one
MAX_RUNNING = 10
DRAIN_S = 30.0
MAX_AGE_S = 90.0
STUCK_S = 30.0
KEPT_S = 40.0
KEPT_BYTES = 120_000
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
    "millrace.wire.limits.KEPT_S": KEPT_S,
    "millrace.wire.limits.DETACHED_S": DETACHED_S,
    "millrace.wire.limits.MAX_RUNNING": 3,
    "millrace.wire.limits.MAX_QUEUED": 6,
    "millrace.web.flood.BURST_S": 1e9,  # seconds of CPU: how fast this machine is must not matter
}

Endpoint = Callable[[Request], Any]


class Simulation:
    """One process and its clients. `act` runs something, and returns when everything that follows from it is done."""

    def __init__(self) -> None:
        self._bounds = ExitStack()
        for name, bound in BOUNDS.items():
            self._bounds.enter_context(patch(name, bound))
        self.loop = ManualLoop()
        self.received = Received()
        self.faults = Faults()
        self.attempts: list[ManualAttempt] = []
        self.clients: list[WebSocketClient] = []
        self.http_clients: list[HttpClient] = []
        self.ledger = MemoryLedger()
        self.happened: Counter[str] = Counter()  # what has happened, at the end
        self.together = 0  # so many more acts run at once
        self.apart = 0  # turns of the loop between them
        self._lag = 0
        self._alone = True  # no act waits for others
        self.drain: asyncio.Task[None] | None = None
        clock = self.loop.time
        self.places = Shares(lambda: MAX_RUNNING - self.places.used, lambda: False)
        upstream = ManualUpstream(self.attempts)
        parts = (upstream, MemoryExactCache(), self.ledger, self.places, Router(self._wall), clock, self._wall)
        self._new_funnel = partial(funnel_of, *parts)
        self.funnels = Funnels(self._new_funnel())
        self.runs = Runs(self.funnels, clock, self._wall, kept_bytes=KEPT_BYTES)
        conversations = Conversations(self.runs, MemoryArchive())
        self.runs.on_end = conversations.remember
        self.limiter = MemoryLimiter(clock, self._wall)
        memory = MemoryBudget(2**30)
        keyring = Keyring(may_be_open=False)
        keyring.replace([Key(principal=one, name="", digest=b"", created_at=WALL) for one in PRINCIPALS])
        self.process = Process(
            funnel=self.funnels,
            runs=self.runs,
            intake=Intake(self.funnels, self.runs, conversations, self.limiter, RoomyDisk(), InlineSchemas(), clock),
            conversations=conversations,
            clock=clock,
            wall=self._wall,
            epoch="epoch-1",
            hand_over=lambda: None,
            gate=Gate(keyring, Tickets(clock, keyring.principal), Origins([]), max_connections=1000),
            backlog=RoomyDisk(),
            cache=cast("Any", None),
            ledger=cast("Any", None),
            feedbacks=cast("Any", None),
            reports=cast("Any", None),
            router_reports=cast("Any", None),
            batches=cast("Any", None),
            settings=cast("Any", None),
            embeddings=Embeddings(
                None, self.limiter, self.ledger, RoomyDisk(), memory, self._wall, max_running=MAX_RUNNING
            ),
            memory=memory,
            chats=Chats(self.runs),
            levers=cast("Any", None),
            dashboard=cast("Any", None),
            drain_s=DRAIN_S,
            max_age_s=MAX_AGE_S,
            stuck_s=STUCK_S,
            max_message_bytes=2**20,
        )
        self.sweeper = Sweeper(clock, BEAT_S)
        for tick in (self.funnels.meter, self.runs.sweep, self.process.sweep):
            self.sweeper.add(tick)
        self._sweeping = self.loop.create_task(self.sweeper.run())

    def act(self, *acts: Callable[[], object]) -> bool:
        """Run these, and all that follows; return False if they run together with other acts."""
        for act in acts:
            self._later(self._lag, act)
        alone, self._alone = self._alone, self.together == 0
        if self.together > 0:
            self.together -= 1
            self._lag += self.apart
            return False
        self._lag = 0
        self.loop.run_until_idle()
        self.check()
        return alone

    def collide(self, one: Callable[[], object], other: Callable[[], object], apart: int) -> None:
        """Do two things within so many turns of the loop."""
        self._later(0, one)
        self._later(apart, other)
        self.advance(0)

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.together, self._lag, self._alone = 0, 0, True
        self.loop.advance(seconds)
        self.check()

    def connect(self, principal: Principal, *, negotiated: bool) -> None:
        checker = ConnectionChecker(self.received, principal.tenant, others_of(principal.tenant), negotiated=negotiated)
        client = WebSocketClient(principal, checker, self.faults, self.loop.time)
        self.clients.append(client)
        self.act(lambda: self._begin(client))

    def call(
        self, http_client: HttpClient, endpoint: Endpoint, body: bytes = b"", query: str = "", **path: str
    ) -> None:
        """Send a request over HTTP."""
        self.http_clients.append(http_client)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [],
            "query_string": query.encode(),
            "path_params": path,
            "state": {"process": self.process, "principal": http_client.principal},
        }
        self.act(lambda: self._call(http_client, endpoint, scope, body))

    def reload(self) -> None:
        """Have what begins from now on take another funnel."""
        funnel, earlier = self._new_funnel(), self.funnels.earlier
        funnel.health.take_over(self.funnels.health)
        self.funnels.replace(funnel)
        earlier[:] = [each for each in earlier if each.bills]

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
        """Return how many clients listen to a run."""
        jobs = [job for session in self.sessions for job in session._jobs._jobs.values()]
        answers = [http_client.answer for http_client in self.http_clients if http_client.answer is not None]
        return sum(job.run is run for job in jobs) + sum(answer._run is run for answer in answers)

    def check(self) -> None:
        """Fail if anything is wrong now that everything waits."""
        assert not self.loop.faults, self.loop.faults
        assert not self.faults, self.faults
        assert not self.ledger.faults, self.ledger.faults
        for client in self.clients:
            if client.task is not None and client.task.done():
                client.task.result()
        assert self.funnels.running <= len(self.runs.running) <= self.funnels.running + 1
        calls = Counter(attempt.question for attempt in self.attempts if attempt.is_open)
        for question, count in calls.items():
            wanted = self.live(question)
            assert count <= CALLS * len(wanted), f"{count} calls for {len(wanted)} requests: {question}"
        for run in self.runs.running:
            assert run.listeners == self.listeners(run), f"{run.listeners} present, {self.listeners(run)} listen"
            self._check_time(run)
        for client in self.clients:
            since = client.paused_at if client.is_here else None
            assert since is None or self.loop.time() - since <= STUCK_S + BEAT_S, "it reads nothing, and is not closed"

    def _check_time(self, run: Run) -> None:
        now, deadline = self.loop.time() - BEAT_S, run.request.deadline_at
        assert deadline is None or now <= deadline, "it runs past its deadline"
        assert run.left_at is None or now - run.left_at <= DETACHED_S, "nobody has resumed it, and it runs"

    def end(self, how: str) -> None:
        """Come to an end: the models answer, or all clients leave, or the process drains; nothing may be left."""
        self.together = 0
        self.act(
            *(client.read for client in self.clients), *(http_client.reading.set for http_client in self.http_clients)
        )
        if how == "leave":
            self.act(*(lambda client=client: client.leave(abrupt=False) for client in self.clients if client.is_here))
            self.act(*(http_client.leave for http_client in self.http_clients))
            self.advance(DETACHED_S + 1)
        elif how == "drain":
            self.begin_drain()
        else:
            self._answer_all()
        if self.drain is not None:
            self.advance(DRAIN_S + 5)
            self.advance(5)
            assert self.drain.done(), "the drain does not end"
            self.drain.result()
            for session in self.sessions:  # begun when all was over: the server closes its socket
                session.close(CloseCode.RESTART, "")
            self.advance(0)
            assert all(client.closed in (1012, 1013) for client in self.clients if not client.gone)
        self._check_all_delivered()
        for http_client in self.http_clients:
            assert http_client.task is not None
            assert http_client.task.done(), "a request over HTTP has no end"
            assert http_client.is_whole or http_client.was_slow or not http_client.is_here, (
                "an answer over HTTP was cut"
            )
        self.act(*(lambda client=client: client.leave(abrupt=True) for client in self.clients if client.is_here))
        self.advance(DETACHED_S + 1)
        self._check_nothing_left()
        self._check_bills()
        self._count_events()
        self.advance(KEPT_S + 1)
        assert not len(self.runs.kept)
        assert self.process.memory.used == 0
        assert not self.runs._repeats

    def close(self) -> None:
        """Close the loop, whatever is still in it."""
        self.loop.run_until_idle()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_idle()
        self.loop.close()
        self._bounds.close()

    def _later(self, turns: int, act: Callable[[], object]) -> None:
        self.loop.call_soon(act) if turns == 0 else self.loop.call_soon(self._later, turns - 1, act)

    def _wall(self) -> float:
        return WALL + self.loop.time()

    def _begin(self, client: WebSocketClient) -> None:
        if self.process.gate.draining:
            client.gone = True
            return
        client.session = Session(self.process, client, client.principal, negotiated=client.negotiated)
        client.task = self.loop.create_task(self._serve(client))

    async def _serve(self, client: WebSocketClient) -> None:
        try:
            await client.session.run(client.receive)
        except Closed as end:
            client.closed = end.code

    def _call(self, http_client: HttpClient, endpoint: Endpoint, scope: dict[str, Any], body: bytes) -> None:
        http_client.task = self.loop.create_task(self._answer(http_client, endpoint, scope, body))

    async def _answer(self, http_client: HttpClient, endpoint: Endpoint, scope: dict[str, Any], body: bytes) -> None:
        bodies = iter([{"type": "http.request", "body": body}])

        async def receive() -> dict[str, Any]:
            return next(bodies, None) or await http_client.receive_end()

        try:
            http_client.answer = await endpoint(Request(scope, receive))
            await http_client.answer(scope, receive, http_client.send)
        except MillraceError as error:
            if error.code == "internal_error":
                self.faults.append(error.message)
            await refusal(error, scope)(scope, receive, http_client.send)
        finally:
            http_client.answer = None

    def _drain(self) -> None:
        self.drain = self.loop.create_task(drain.drain(self.process))

    def _answer_all(self) -> None:
        for _ in range(1000):
            if not self.runs.running:
                return
            self.advance(0.5)
            self.act(*(lambda each=each: each.say("Yes.", STOP) for each in self.attempts if each.is_open))
        raise AssertionError(f"{self.runs.running} do not end")

    def _count_events(self) -> None:
        """Count what has happened: a test proves nothing about what never happened in it."""
        events = [event for history in self.received.histories.values() for event in history.kinds]
        refused = [code for client in self.clients for code in client.checker.codes]
        entries = self.ledger.entries.values()
        charges = [charge for entry in entries for charge in entry.statement.charges]
        self.happened.update(events)
        self.happened.update(f"refused {code}" for code in refused)
        self.happened.update(f"over HTTP {http_client.status}" for http_client in self.http_clients)
        self.happened.update(f"ended {entry.status} {entry.code or ''}".strip() for entry in entries)
        self.happened.update(f"cache {entry.cache}" for entry in entries)
        self.happened.update(f"call {charge.outcome}" for charge in charges)
        self.happened.update(f"closed {client.closed}" for client in self.clients if client.closed is not None)
        self.happened["calls paid by two"] += len(charges) > len([each for each in self.attempts if each.sent])
        self.happened["calls of a conversation"] += sum(
            any(message.role == "assistant" for message in attempt.call.prompt.messages) for attempt in self.attempts
        )
        self.happened["replayed"] += self.received.repeated
        self.happened["calls that waited for a client"] += sum(attempt.waited for attempt in self.attempts)

    def _check_all_delivered(self) -> None:
        for client in self.clients:
            if client.is_here:
                outstanding = [
                    each
                    for each in client.checker.outstanding
                    if isinstance(each, tuple) or not self._is_late(client, each)
                ]
                assert not outstanding, f"neither ended nor refused: {outstanding}"
                assert client.session._jobs.is_empty, "a job is left in a lane"
                assert not client.session._jobs._lanes.waiting
                assert not client.session._jobs._lanes.running

    def _is_late(self, client: WebSocketClient, pending: Any) -> bool:
        history = self.received.histories.get((pending.response_id, client.negotiated))
        count = self.received.count(pending.response_id, negotiated=client.negotiated)
        return history is not None and history.terminal is not None and pending.start == count

    def _check_nothing_left(self) -> None:
        assert not self.runs.running, "something still runs"
        assert self.funnels.running == 0
        assert not any(funnel._flights or funnel.bills for funnel in (self.funnels.current, *self.funnels.earlier))
        assert not self.process.sessions
        assert not self.process.streams
        assert not any(attempt.is_open for attempt in self.attempts), "a call is left open"
        left = [task for task in asyncio.all_tasks(self.loop) if task is not self._sweeping]
        assert not left, f"tasks are left over: {left}"
        assert not self.loop.unretrieved, self.loop.unretrieved
        for account in self.limiter.accounts:
            assert account.in_flight == account.reserved_tokens == account.reserved_cost == 0

    def _check_bills(self) -> None:
        entries = self.ledger.entries
        assert not self.ledger.open, "a bill is left open"
        documents = [http_client.document for http_client in self.http_clients if "status" in http_client.document]
        for response in [*self.received.ended, *documents]:
            entry = entries[response["id"]]
            assert entry.tenant == self.received.owners.get(response["id"], entry.tenant)
            assert float(entry.statement.cost) == response["usage"]["cost_usd"]
            assert entry.status == response["status"]
            self._check_answer(response)
        for http_client in self.http_clients:
            self._check_completion(http_client)
        for model in CATALOG.models:
            self._check_model(model)
        spent = sum((entry.statement.cost for entry in entries.values() if entry.key_id == LIMITED.key_id), Decimal(0))
        assert {account.spent_day for account in self.limiter.accounts} <= {spent}

    def _check_model(self, model: Model) -> None:
        """Fail unless what all entries say of a model is what it has charged.

        If a call that was handed over is refused later, the first payer has paid an estimate, which is not refunded.
        """
        entries = self.ledger.entries.values()
        charges = [charge for entry in entries for charge in entry.statement.charges if charge.model == model.id]
        attempts = [attempt for attempt in self.attempts if attempt.call.model is model]
        charged = [attempt.charged for attempt in attempts]
        maybe = [Usage(input_tokens=attempt.input_tokens) for attempt in attempts if attempt.was_refused]
        outputs = sum(charge.usage.output_tokens for charge in charges)
        assert outputs == sum(usage.output_tokens for usage in charged), f"output tokens of {model.id}"
        cost = sum((charge.cost for charge in charges), pricing.ZERO)
        least = sum((pricing.cost(usage, model.price) for usage in charged), pricing.ZERO)
        most = least + sum((pricing.cost(usage, model.price) for usage in maybe), pricing.ZERO)
        assert least <= cost <= most, f"{cost} for {model.id}: not {least} to {most}"

    def _check_answer(self, response: dict[str, Any]) -> None:
        """Fail unless an accepted answer is the whole answer of a model."""
        reason = (response.get("incomplete_details") or {}).get("reason")
        if response["status"] != "completed" and reason not in ("max_output_tokens", "content_filter"):
            return
        if "millrace.route" not in response["metadata"]:
            assert response["output"] == []
            return
        wanted = {"max_output_tokens": ("length",), "content_filter": ("content_filter",)}
        finishes = wanted.get(str(reason), ("stop", "tool_calls"))
        assert answer_of(response) in self._answers(*finishes), f"no model sent this: {response}"

    def _check_completion(self, http_client: HttpClient) -> None:
        """Fail unless a chat completion or a message with a finish reason is the whole answer of a model."""
        finish = http_client.finish
        if finish in OF_A_MESSAGE:
            texts = [sorted(text + refusal) for text, _, refusal, _ in self._answers(*OF_A_MESSAGE[finish])]
            assert sorted(http_client.text) in texts, f"no model sent this: {http_client.text!r}"
        elif finish is not None:
            wanted = {"stop": ("stop", "tool_calls"), "tool_calls": ("stop", "tool_calls")}.get(finish, (finish,))
            said = [(text, refusal) for text, _, refusal, _ in self._answers(*wanted)]
            assert (http_client.text, http_client.refusal) in said, f"no model sent this: {http_client.text!r}"

    def _answers(self, *finishes: str) -> list[tuple[str, str, str, tuple[tuple[str, str], ...]]]:
        return [attempt.answer for attempt in self.attempts if attempt.finish and attempt.finish.reason in finishes]


def question_of(run: Run) -> str:
    """Return the question of a run."""
    return next(message.text for message in reversed(run.request.prompt.messages) if message.role == "user")


def others_of(tenant: str) -> Callable[[str], bool]:
    """Return a check for another tenant's words in a text."""
    (other,) = [name for name in TENANTS if name != tenant]
    return lambda text: other in text


def frame_of(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a client's frame, without the fields that are None."""
    return {"type": kind} | {name: value for name, value in fields.items() if value is not None}


def body_of(frame: dict[str, Any]) -> bytes:
    """Return a create as the body of a POST."""
    return json.dumps({name: value for name, value in frame.items() if name not in ("type", "stream_id")}).encode()


OF_A_MESSAGE = {  # finish reasons of models, by the stop reason that clients are told
    "end_turn": ("stop", "tool_calls"),
    "tool_use": ("stop", "tool_calls"),
    "max_tokens": ("length",),
    "refusal": ("stop", "tool_calls", "content_filter"),
}
HTTP = {
    "create": endpoints.create_response,
    "complete": endpoints.create_completion,
    "say": create_message,
    "delete": endpoints.delete,
    "retrieve": endpoints.retrieve,
    "cancel": endpoints.cancel,
}
