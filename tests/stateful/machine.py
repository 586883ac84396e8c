"""The rules: whatever clients, models and time may do, in any order."""

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from millrace.errors import UpstreamError
from millrace.types import CallPiece, Finish, FinishReason, OnDisconnect, Refusal, Thought
from tests.stateful.clients import HttpClient, PendingRequest, WebSocketClient
from tests.stateful.models import ManualAttempt, Step, filtered
from tests.stateful.simulation import HTTP, PRINCIPALS, Simulation, body_of, frame_of, others_of
from tests.support.scripted_models import CALLED, CUT, STOP

T = TypeVar("T")

TOOL = {"type": "function", "name": "measure", "parameters": {"type": "object"}}
LANES = st.sampled_from([None, "one", "two", "three"])
WHICH = st.integers(0, 11)  # of those there are
ASKS = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["cascade", "cascade", "auto", "small", "large", "race", "hedge"]),
        "delivery": st.sampled_from([None, None, "speculate", "prefix", "commit", "final"]),
        "cache": st.sampled_from(["on", "on", "on", "off", "off", "refresh", "refresh", "only"]),
        "on_disconnect": st.sampled_from([None, "detach"]),
        "deadline_ms": st.sampled_from([None, None, None, 700, 5000]),
        "max_cost_usd": st.sampled_from([None, None, None, None, "0.000005", "0.0002", "0.02"]),
        "idempotency_key": st.sampled_from([None, None, None, "key-1", "key-2"]),
    }
)
SHARED = st.fixed_dictionaries(  # two who ask so may share an answer
    {
        "strategy": st.sampled_from(["cascade", "cascade", "large", "race"]),
        "delivery": st.sampled_from(["speculate", "speculate", "prefix"]),
        "on_disconnect": st.sampled_from([None, "detach"]),
        "deadline_ms": st.sampled_from([None, None, None, 5000]),
        "cache_scope": st.just("all"),
    }
)
BODIES = st.sampled_from(
    [
        *({}, {}, {}, {}),
        *({"tools": [TOOL]}, {"tools": [TOOL]}),
        *({"store": True}, {"store": False}, {"generate": False}, {"max_output_tokens": 12}),
        *({"instructions": "Be kind."}, {"text": {"format": {"type": "json_object"}}}),
    ]
)
ERRORS = st.sampled_from(["upstream_error", "upstream_truncated", "upstream_timeout", "upstream_overloaded"])


someone = precondition(lambda self: any(client.is_here for client in self.simulation.clients))
something_received = precondition(lambda self: self.simulation.received.owners)
models_at_work = precondition(lambda self: any(attempt.is_open for attempt in self.simulation.attempts))


class Machine(RuleBasedStateMachine):
    """One process, its clients and its models."""

    happened: ClassVar[Counter[str]] = Counter()  # in all sequences

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation()
        self.how = "answer"
        self._count = 0

    @initialize(how=st.sampled_from(["answer", "leave", "drain"]), first=st.booleans())
    def begin(self, how: str, first: bool) -> None:
        self.how = how
        self.simulation.connect(PRINCIPALS[0], negotiated=first)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # else there is a fault to be told
                self.simulation.end(self.how)
                self.happened.update(self.simulation.happened)
        finally:
            self.simulation.close()

    # Clients

    @rule(principal=st.sampled_from(PRINCIPALS), negotiated=st.booleans())
    def connect(self, principal: Any, negotiated: bool) -> None:
        if len([client for client in self.simulation.clients if client.is_here]) < 6:
            self.simulation.connect(principal, negotiated=negotiated)

    def create(
        self, who: int, lane: str | None, asks: dict[str, Any], body: dict[str, Any], previous: int | None
    ) -> None:
        if (client := self._client(who)) is None:
            return
        frame = self._frame(client.principal.tenant, asks, body, previous) | {"event_id": self._name("event")}
        client.checker.expect(PendingRequest(frame["event_id"], lane, frame["metadata"]["mark"]))
        self._send(client, frame | ({} if lane is None else {"stream_id": lane}))

    # Whoever asks most gives the others most to do.
    ask = someone(rule(who=WHICH, lane=LANES, asks=ASKS, body=BODIES, previous=st.none())(create))
    ask_the_same = someone(rule(who=WHICH, lane=LANES, asks=SHARED, body=st.just({}), previous=st.none())(create))
    go_on = something_received(rule(who=WHICH, lane=LANES, asks=ASKS, body=BODIES, previous=WHICH)(create))

    @rule(who=WHICH, asks=ASKS | SHARED, body=BODIES, stream=st.booleans())
    def post(self, who: int, asks: dict[str, Any], body: dict[str, Any], stream: bool) -> None:
        principal = PRINCIPALS[who % len(PRINCIPALS)]
        frame = self._frame(principal.tenant, asks, body, None)
        http_client = self._http_client(principal, frame["metadata"]["mark"])
        self.simulation.call(http_client, HTTP["create"], body_of(frame | {"stream": stream}))

    @rule(who=WHICH, asks=ASKS | SHARED, stream=st.booleans(), usage=st.booleans())
    def complete(self, who: int, asks: dict[str, Any], stream: bool, usage: bool) -> None:
        """Ask in the dialect of chat completions."""
        principal = PRINCIPALS[who % len(PRINCIPALS)]
        frame = self._frame(principal.tenant, asks, {}, None)
        body = frame | {"messages": [{"role": "user", "content": frame.pop("input")}], "stream": stream}
        options = {"stream_options": {"include_usage": usage}} if stream else {}
        self.simulation.call(self._http_client(principal), HTTP["complete"], body_of(body | options))

    @rule(who=WHICH, asks=ASKS | SHARED, stream=st.booleans(), has_tools=st.booleans())
    def ask_for_a_message(self, who: int, asks: dict[str, Any], stream: bool, has_tools: bool) -> None:
        """Ask in the dialect of the Messages API."""
        principal = PRINCIPALS[who % len(PRINCIPALS)]
        frame = self._frame(principal.tenant, asks, {}, None)
        body = frame | {"messages": [{"role": "user", "content": frame.pop("input")}], "stream": stream}
        tools = {"tools": [{"name": TOOL["name"], "input_schema": TOOL["parameters"]}]} if has_tools else {}
        self.simulation.call(self._http_client(principal), HTTP["say"], body_of(body | tools | {"max_tokens": 500}))

    @something_received
    @rule(
        who=WHICH,
        which=WHICH,
        lane=LANES,
        how=st.sampled_from(["one", "one", "lane", "unknown", "over HTTP", "delete"]),
    )
    def cancel(self, who: int, which: int, lane: str | None, how: str) -> None:
        client, response_id = self._client(who), "resp_0" if how == "unknown" else self._response(which)
        if how in ("over HTTP", "delete") and response_id is not None:
            http_client = self._http_client(PRINCIPALS[who % len(PRINCIPALS)])
            self.simulation.call(http_client, HTTP["delete" if how == "delete" else "cancel"], id=response_id)
        elif how == "lane" and client is not None:
            self._send(client, frame_of("response.cancel", stream_id=lane))
        elif client is not None and response_id is not None:
            run = self.simulation.runs.find(client.principal.tenant, response_id)
            if self._send(client, frame_of("response.cancel", response_id=response_id)) and run is not None:
                assert run.is_over or not client.is_here, "it was cancelled, and goes on"

    @something_received
    @rule(who=WHICH, which=WHICH, after=st.sampled_from(["none", "some", "some", "all", "ahead", "other epoch"]))
    def resume(self, who: int, which: int, after: str) -> None:
        client, response_id = self._client(who), self._response(which)
        if client is None or response_id is None:
            return
        count = self.simulation.received.count(response_id, negotiated=client.negotiated)
        number = {"none": -1, "some": count // 2 - 1, "all": count - 1, "ahead": count + 1000}.get(after, -1)
        run = self.simulation.runs.find(client.principal.tenant, response_id)
        name = self._name("event")
        if run is not None:
            client.checker.expect(PendingRequest(name, run.stream_id, "", response_id, number + 1, late=after == "all"))
        codes = len(client.checker.codes)
        epoch = "epoch-0" if after == "other epoch" else "epoch-1"
        frame = frame_of("millrace.resume", response_id=response_id, after=number, epoch=epoch, event_id=name)
        if self._send(client, frame) and client.is_here and client.reading:
            refused = run is None or after in ("ahead", "other epoch")
            assert not refused or len(client.checker.codes) > codes, "a resume that cannot be is not refused"

    @something_received
    @rule(who=WHICH, which=WHICH, after=st.sampled_from(["none", "some", "ahead"]))
    def retrieve(self, who: int, which: int, after: str) -> None:
        principal, response_id = PRINCIPALS[who % len(PRINCIPALS)], self._response(which)
        if response_id is None:
            return
        http_client = self._http_client(principal)
        count = self.simulation.received.count(response_id, negotiated=False)
        start = {"none": 0, "some": count // 2, "ahead": count + 1000}[after]
        http_client.resumes(response_id, start)
        query = "stream=true" + (f"&starting_after={start - 1}" if start else "")
        self.simulation.call(http_client, HTTP["retrieve"], query=query, id=response_id)

    @someone
    @rule(who=WHICH, how=st.sampled_from(["orderly", "abrupt", "over HTTP"]))
    def disconnect(self, who: int, how: str) -> None:
        if how == "over HTTP":
            if (
                http_client := self._one([each for each in self.simulation.http_clients if each.is_here], who)
            ) is not None:
                run = self.simulation.runs.find(http_client.principal.tenant, http_client.response_id)
                self._leave([run] if run is not None and http_client.answer is not None else [], http_client.leave)
        elif (client := self._client(who)) is not None and client.session is not None:
            runs = [job.run for job in client.session._jobs._jobs.values() if job.run is not None]
            self._leave(runs, partial(client.leave, abrupt=how == "abrupt"))

    @someone
    @rule(who=WHICH, how=st.sampled_from(["stop", "stop", "go on", "go on", "one", "some", "over HTTP"]))
    def read(self, who: int, how: str) -> None:
        """Stop reading, or go on, or read a few frames."""
        if how == "over HTTP":
            if (
                http_client := self._one([each for each in self.simulation.http_clients if each.is_here], who)
            ) is not None:
                self.simulation.act(http_client.toggle_reading)
            return
        frames = {"stop": 0, "one": 1, "some": 20}.get(how)
        if (
            client := self._one([each for each in self.simulation.clients if each.reading is (how == "stop")], who)
        ) is not None:
            self.simulation.act(partial(client.read, frames))

    @someone
    @rule(who=WHICH, frame=st.sampled_from(["ping", "steer", "nonsense", "bad lane"]))
    def send_something_else(self, who: int, frame: str) -> None:
        if (client := self._client(who)) is not None:
            frames = {
                "ping": frame_of("millrace.ping", t=1),
                "steer": frame_of("response.steer", input="Shorter."),
                "nonsense": frame_of("response.nonsense"),
                "bad lane": frame_of("response.create", stream_id="no lane!", input="Hello?"),
            }
            if frame != "ping" or client.negotiated:
                self._send(client, frames[frame])

    # Models

    def speak(self, which: int, words: str | int) -> None:
        if (attempt := self._attempt(which)) is None:
            return
        tenant, number, said = attempt.question.split()[0], attempt.number, len(attempt.parts)
        match words:
            case int():
                self._say(attempt, *(f" {tenant}{number}.{said + at}" for at in range(words)))
            case "blank":
                self._say(attempt, " ")
            case "doubt":  # the checks do not let it pass
                self._say(attempt, f"I'm not sure, {tenant}. I don't know.")
            case _:  # a client that does not read is behind then
                self._say(attempt, *(f" {tenant}{number}" + " and so on" * 400,) * 3)

    say = models_at_work(rule(which=WHICH, words=st.sampled_from([1, 2, 5, 45, 300]))(speak))
    say_more = models_at_work(
        rule(which=WHICH, words=st.sampled_from([1, 1, 45, "blank", "doubt", "doubt", "much"]))(speak)
    )

    @models_at_work
    @rule(which=WHICH, kind=st.sampled_from(["thought", "refusal", "call", "call", "more"]))
    def say_aside(self, which: int, kind: str) -> None:
        if (attempt := self._attempt(which)) is None:
            return
        calls = {piece.index for piece in attempt.asides if isinstance(piece, CallPiece)}
        if kind == "thought":
            self._say(attempt, Thought(f" Hm{attempt.number}."))
        elif kind == "refusal":
            self._say(attempt, Refusal(f" No{attempt.number}."))
        elif kind == "call" and attempt.call.prompt.tools and not attempt.paused:
            index, attempt.calls = attempt.calls, attempt.calls + 1
            piece = CallPiece(index=index, id=f"call_{index}", name="measure", arguments='{"by":')
            self._say(attempt, piece, CallPiece(index=index, arguments=f"{attempt.number}}}"))
        elif kind == "more" and 0 in calls:
            self._say(attempt, CallPiece(index=0, arguments=" "))

    def end(self, which: int, end: Finish) -> None:
        if (attempt := self._attempt(which)) is not None:
            called = any(isinstance(piece, CallPiece) for piece in attempt.asides)
            self._say(attempt, CALLED if called and end is STOP else end)

    stop = models_at_work(rule(which=WHICH, end=st.just(STOP))(end))
    finish = models_at_work(
        rule(which=WHICH, end=st.sampled_from([STOP, CUT, filtered(), Finish(reason=FinishReason.STOP, refused=True)]))(
            end
        )
    )

    @models_at_work
    @rule(which=WHICH, code=ERRORS)
    def fail(self, which: int, code: str) -> None:
        if (attempt := self._attempt(which)) is not None:
            refused = code == "upstream_overloaded" and attempt.is_silent
            self._say(attempt, UpstreamError(code, "it broke", billable=not refused))

    @models_at_work
    @rule(
        which=WHICH,
        end=st.sampled_from([STOP, CUT, None, None, "I don't know."]),
        how=st.sampled_from(["cancel", "cancel at once", "leave", "leave", "stop reading"]),
        apart=st.integers(0, 8),
        first=st.booleans(),
    )
    def collide(self, which: int, end: Step | None, how: str, apart: int, first: bool) -> None:
        """Let a model come to its end, or to a revise, just when a client has enough of it."""
        if (attempt := self._attempt(which)) is None:
            return
        clients = [
            (client, job.run)
            for client in self.simulation.clients
            if client.is_here and client.session is not None
            for job in client.session._jobs._jobs.values()
            if job.run in self.simulation.live(attempt.question)
        ]
        if (found := self._one(clients, which)) is None:
            return
        client, run = found
        acts = {
            "cancel": partial(client.send, frame_of("response.cancel", response_id=run.request.id)),
            "leave": partial(client.leave, abrupt=True),
            "stop reading": partial(client.read, 0),
            "cancel at once": run.cancel,
        }
        line = UpstreamError("upstream_truncated", "it broke") if end is None else end
        both: list[Callable[[], object]] = [partial(attempt.say, line), acts[how]]
        self.simulation.collide(both[not first], both[first], apart)

    # Time

    @rule(seconds=st.sampled_from([0.01, 0.25, 0.6, 1.5, 6.0, 33.0]))
    def advance(self, seconds: float) -> None:
        self.simulation.advance(seconds)

    @rule(acts=st.integers(1, 3), apart=st.integers(0, 5))
    def gather(self, acts: int, apart: int) -> None:
        """Let what comes next happen at once, in one turn of the loop or a few turns apart."""
        self.simulation.together, self.simulation.apart = acts, apart

    @rule()
    def reload(self) -> None:
        self.simulation.act(self.simulation.reload)

    @precondition(lambda self: self._count > 8)
    @rule(sure=st.sampled_from([False, False, True]))
    def drain(self, sure: bool) -> None:
        if sure:
            self.simulation.begin_drain()

    # How

    def _frame(self, tenant: str, asks: dict[str, Any], body: dict[str, Any], previous: int | None) -> dict[str, Any]:
        key = asks.get("idempotency_key")
        name = f"{tenant}-{key}" if key else self._name(tenant)
        return frame_of(
            "response.create",
            input=f"{tenant} asks {asks.get('cache_scope') or name}",
            metadata={"mark": name},
            previous_response_id=None if previous is None or key else self._response(previous),
            millrace={option: value for option, value in asks.items() if value is not None},
            **body,
        )

    def _send(self, client: WebSocketClient, frame: dict[str, Any]) -> bool:
        return self.simulation.act(partial(client.send, frame))

    def _say(self, attempt: ManualAttempt, *lines: Step) -> None:
        self.simulation.act(partial(attempt.say, *lines))

    def _leave(self, runs: list[Any], leave: Callable[[], None]) -> None:
        """Let a client leave: what runs for others, or for nobody by its own wish, goes on; the rest is cancelled."""
        stay = {run for run in runs if run.request.on_disconnect is OnDisconnect.DETACH}
        stay |= {run for run in runs if self.simulation.listeners(run) > runs.count(run)}
        ended = {run for run in runs if run.is_over}
        if self.simulation.act(leave):
            for run in {*runs} - ended:
                ended_by = run.response.ended and run.response.ended.reason  # a paused model may have come to its end
                assert ended_by != "cancelled" if run in stay else run.is_over, f"{run.request.id}: {ended_by}"

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}-{self._count}"

    def _http_client(self, principal: Any, mark: str = "") -> HttpClient:
        return HttpClient(
            self.simulation.received, principal, others_of(principal.tenant), mark, self.simulation.faults
        )

    def _client(self, which: int) -> WebSocketClient | None:
        return self._one([client for client in self.simulation.clients if client.is_here], which)

    def _attempt(self, which: int) -> ManualAttempt | None:
        return self._one([attempt for attempt in self.simulation.attempts if attempt.is_open], which)

    def _response(self, which: int) -> str | None:
        return self._one([*self.simulation.received.owners], which)

    @staticmethod
    def _one(some: list[T], which: int) -> T | None:
        return some[-1 - which % len(some)] if some else None
