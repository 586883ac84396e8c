"""From what a client asked to a run, for WebSocket sessions and HTTP alike.

Names are resolved, limits are checked, conversations are continued, and a repeat is attached to the run it repeats.
What is refused here never becomes a response.
"""

import asyncio
import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.funnel.checks import form
from millrace.funnel.funnels import Funnels
from millrace.funnel.offload import in_thread_if_long
from millrace.funnel.routing import pins
from millrace.memory import Hold
from millrace.ports import Admission, Backlog, Clock, Limiter, SchemaValidator
from millrace.ports.replicas import Repeats
from millrace.principal import Principal
from millrace.runs import histories
from millrace.runs.admission import OnceItPays, admitted, behind_visitors, drawn
from millrace.runs.conversations import Conversations
from millrace.runs.ids import response_id
from millrace.runs.kept import Repeat
from millrace.runs.run import Run, bytes_while_running
from millrace.runs.runs import Runs, deadline_exceeded, mismatch
from millrace.types import Delivery, Request, Trace
from millrace.wire import turns
from millrace.wire.requests import Create
from millrace.wire.tools import settled


class TakenElsewhereError(MillraceError):
    """Another replica has a request with this idempotency key."""

    def __init__(self, response_id: str) -> None:
        message = f"idempotency_key: another replica has its response; GET /v1/responses/{response_id} shows it"
        super().__init__("resume_expired", message, param="millrace.idempotency_key")
        self.response_id = response_id


Traced = Callable[[Trace | None], Trace | None]

_NOT_COMPARED = ("type", "stream_id", "event_id", "stream", "stream_options")  # two equal requests may differ in these


class Intake:
    """Accepts requests, until it is closed for a drain."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        funnels: Funnels,
        runs: Runs,
        conversations: Conversations,
        limiter: Limiter,
        backlog: Backlog,
        schemas: SchemaValidator,
        clock: Clock,
        with_limits: Callable[[Principal], Principal] = lambda principal: principal,
        *,
        traced: Traced = lambda trace: trace,
        place: str = "",
        repeats: Repeats | None = None,
    ) -> None:
        """`place` begins the ids of responses: that of this process, where it is one of several replicas.

        `repeats`: which of them has a request with an idempotency key.

        `with_limits` returns a principal with the limits that its key has now; a connection may be old.

        `traced` decides whether spans of a request are recorded.
        """
        self.closed = False
        self._place = place
        self._repeats = repeats
        self.taken = 0  # requests that were read
        self._with_limits = with_limits
        self._traced = traced
        self._funnels = funnels
        self._runs = runs
        self._conversations = conversations
        self._limiter = limiter
        self._backlog = backlog
        self._schemas = schemas
        self._clock = clock

    def read(
        self,
        create: Create,
        principal: Principal,
        held: Hold,
        *,
        negotiated: bool,
        session: str = "",
        streamed: bool = True,
        batch: str = "",
        trace: Trace | None = None,
    ) -> Request:
        """Return the request that a client's fields mean. Raises what is wrong with them, without I/O.

        `session` is the one that it names; without one it begins a session of its own. `batch` is the id of the batch
        that it is a line of, `trace` what its client says of its trace. What it will hold while it runs is held from
        now on. Raises `overloaded` if that does not fit.
        """
        if self.closed:
            raise draining()
        self.taken += 1
        model, strategy = self._funnels.catalog.resolve(create.model, create.strategy)
        request_id = response_id(self._place)
        request = Request(
            id=request_id,
            session=session or request_id,
            tenant=principal.tenant,
            key_id=principal.key_id,
            key_cap=self._with_limits(principal).limits.max_output_tokens,
            model=model,
            strategy=strategy,
            delivery=_delivery(create, negotiated=negotiated, streamed=streamed),
            cache=create.cache,
            prompt=create.prompt,
            metadata=create.metadata,
            context=create.context,
            context_budget=create.context_budget,
            grace_ms=create.grace_ms,
            hedge_ms=create.hedge_ms,
            instructions=create.instructions,
            previous_response_id=create.previous_response_id,
            store=create.store,
            generate=create.generate,
            deadline_at=None if create.deadline_ms is None else self._clock() + create.deadline_ms / 1000,
            max_cost=create.max_cost_usd,
            on_disconnect=create.on_disconnect,
            cache_scope=create.cache_scope,
            context_version=create.context_version,
            checks=create.checks,
            check_schema=create.check_schema,
            check_pattern=create.check_pattern,
            concise=create.concise,
            user=_user_of(create),
            tag=create.tag,
            batch=batch,
            in_frames=negotiated,
            evidence=create.evidence and principal.evidence,
            reasoning_summary=create.reasoning_summary,
            paths=create.paths,
            trace=self._traced(trace),
            not_passed_on=tuple([f"without {name}" for name in create.not_passed_on]),
        )
        if request.trace is not None and request.trace.content is not None:
            request.trace.content.prompt = request.prompt
        self._make_room(request, held)
        return request

    async def start(
        self, request: Request, principal: Principal, held: Hold, repeat: Repeat | None, last: Run | None = None
    ) -> Run:
        """Start a request, or return the run that it repeats. `last` is the run before it in its lane.

        A request that was read before a drain began, and has waited in its lane since, is still started. So is one
        whose deadline comes before it is ready, in order to end as it should. If it is cancelled here, `drop` it.
        Raises `TakenElsewhereError` if another replica has the run that it repeats.
        """
        if repeat is not None and (run := self._runs.repeated(repeat)) is not None:
            return run  # even if the conversation it continued is no longer kept
        if repeat is not None:
            await self._take(request, repeat)
        if request.deadline_at is None:
            prepared = await self._prepared(request, principal, last)
        else:
            try:
                async with asyncio.timeout(request.deadline_at - self._clock()) as patience:
                    prepared = await self._prepared(request, principal, last)
            except TimeoutError:
                if not patience.expired():
                    raise
                run = self._runs.start(request, held=held)
                run.halt(deadline_exceeded())
                return run
        async with self._drawn(prepared, principal):
            if repeat is not None and (run := self._runs.repeated(repeat)) is not None:
                return run  # it was started meanwhile
            if prepared.prompt is not request.prompt:  # what is referred to counts as if it had been sent
                self._make_room(prepared, held)
            request = prepared
            if self._backlog.is_full:  # what runs must still be settled, and no row may be lost
                raise backlogged()
            limited = self._limited(principal, request)
            while self._limiter.lacks(limited, request.user, request.tag):  # a reload has given it a budget since
                await self._limiter.prepare(limited, request.user, request.tag)
                limited = self._limited(principal, request)
            catalog = self._funnels.catalog
            catalog.check_known(request.model)  # else it is configured no more, since the request was read
            request, admission = admitted(request, limited, self._limiter, catalog)
            return self._runs.start(request, admission, repeat, held=held)

    async def _take(self, request: Request, repeat: Repeat) -> None:
        """Have the other replicas pass on what repeats a request. Raises `TakenElsewhereError`."""
        if self._repeats is None:
            return
        taken = await self._repeats.take(repeat.place, repeat.digest, request.id)
        if taken is not None and taken.digest != repeat.digest:
            raise mismatch()
        if taken is not None:
            raise TakenElsewhereError(taken.response_id)

    def has_budget(self, principal: Principal, create: Create) -> bool:
        """Whether what a client's fields cost counts against a budget in dollars."""
        return self._limiter.has_budget(self._with_limits(principal), _user_of(create), create.tag)

    async def lent(self, principal: Principal, user: str, tag: str) -> Admission | None:
        """Return the admission of one who follows a flight from another replica; None if nothing is limited.

        Raises `overloaded` if what was spent cannot be read.
        """
        principal = self._with_limits(principal)
        if not self._limiter.limits(principal, user, tag):
            return None
        await self._limiter.prepare(principal, user, tag)
        return OnceItPays(self._limiter, principal, user, tag)

    def _drawn(self, request: Request, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Have what it is likely to need at hand while it is admitted, where limits are shared with other replicas."""
        if not self._limiter.is_shared:
            return nullcontext()
        return drawn(request, self._limited(principal, request), self._limiter, self._funnels.catalog)

    def _limited(self, principal: Principal, request: Request) -> Principal:
        """Return who asks, with the limits of now; a line of a batch leaves half of the rates to visitors."""
        principal = self._with_limits(principal)
        return behind_visitors(principal) if request.batch else principal

    def _make_room(self, request: Request, held: Hold) -> None:
        """Hold what a request holds while it runs. Raises `overloaded` if that does not fit, now or once it is kept."""
        size = request.memory_bytes
        held.resize(bytes_while_running(size))
        self._runs.kept.check_fits(request.tenant, size)

    def drop(self, request: Request, held: Hold) -> Run:
        """Give a request that was cancelled while it waited its first event and its terminal."""
        return self._runs.start(request, held=held, cancelled=True)

    async def _prepared(self, request: Request, principal: Principal, last: Run | None) -> Request:
        """Compile a request's schemas, let it continue its conversation, and add what its history lacks.

        What its accounts have spent is known then, too.
        """
        principal = self._limited(principal, request)
        if self._limiter.limits(principal, request.user, request.tag):
            await self._limiter.prepare(principal, request.user, request.tag)
        refers = turns.has_references(request.prompt.messages)
        if refers:
            messages = await self._conversations.resolved(request, last)
            request = replace(request, prompt=dataclasses.replace(request.prompt, messages=messages))
        if request.previous_response_id is not None:
            messages, session = await self._conversations.continued(request, last)
            prompt = dataclasses.replace(request.prompt, messages=messages)
            request = replace(request, prompt=prompt, session=session or request.session)
        if refers or request.previous_response_id is not None:  # now all messages are there
            request = replace(request, prompt=settled(request.prompt))
        pins.check_able(request, self._funnels.catalog)
        if unchecked := await form.unchecked(request, self._schemas):
            request = replace(request, unchecked=unchecked)
        return await self._completed(request)

    async def _completed(self, request: Request) -> Request:
        """Return a request with what its client left out of the history."""
        messages = request.prompt.messages
        answers = histories.found(messages, partial(self._runs.kept.made_call, request.tenant))
        if not answers:
            return request
        work = partial(histories.completed, messages, answers)
        whole = await in_thread_if_long(request.tenant, len(answers) * request.prompt.size, work)
        return replace(request, prompt=dataclasses.replace(request.prompt, messages=whole))


def repeat_of(create: Create, fields: dict[str, Any], principal: Principal) -> Repeat | None:
    """Return what makes a request the same as another, if it has an idempotency key."""
    if create.idempotency_key is None:
        return None
    meant = {name: value for name, value in fields.items() if name not in _NOT_COMPARED}
    digest = hashlib.sha256(msgspec.json.encode(meant, order="deterministic")).digest()
    return Repeat(place=(principal.tenant, principal.key_id, create.idempotency_key), digest=digest)


def backlogged() -> MillraceError:
    """Return the error of a process whose disk is behind."""
    message = "too much waits to be written, to disk or to PostgreSQL; try again in a second"
    return MillraceError("overloaded", message, retry_after_ms=1000)


def draining() -> MillraceError:
    """Return the error of a process that drains."""
    return MillraceError(
        "server_draining", "no new requests are taken here any more; connect again and repeat it", retry_after_ms=1000
    )


def _user_of(create: Create) -> str:
    extras = create.prompt.extras
    return str(extras.get("safety_identifier") or extras.get("user") or "")


def _delivery(create: Create, *, negotiated: bool, streamed: bool) -> Delivery:
    """Return the delivery asked for. A client that did not negotiate is never shown words that may be taken back.

    Who gets the answer in one piece sees none before its end, so until then it may be taken back.
    """
    if create.delivery is None and (create.prompt.format is not None or not streamed):
        return Delivery.COMMIT
    asked = create.delivery or Delivery.SPECULATE
    return Delivery.PREFIX if asked is Delivery.SPECULATE and not negotiated else asked
