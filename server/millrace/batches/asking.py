"""One line of a batch: read, run as any request is, and made into what stands in the output for it."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace import pricing
from millrace.batches.budget import Budget
from millrace.dialects.chat import completion_of
from millrace.dialects.responses import body_of
from millrace.errors import FailedWithUsage, MillraceError, invalid
from millrace.funnel.funnels import Funnels
from millrace.funnel.offload import in_thread
from millrace.funnel.routing import choice
from millrace.memory import Hold, MemoryBudget
from millrace.ports import Said, said
from millrace.principal import Principal
from millrace.runs.admission import behind_visitors
from millrace.runs.embeddings import Embeddings, new_id, not_served
from millrace.runs.ids import response_id
from millrace.runs.intake import Intake, repeat_of
from millrace.runs.kept import Kept, Repeat
from millrace.runs.run import Run
from millrace.types import BATCH_TIER, Batch, CacheMode, Call, Counted, Model, Request, Status, Strategy
from millrace.wire import responses as wire
from millrace.wire.batches import CHAT, EMBEDDINGS, BadLineError, read_line
from millrace.wire.completions import read_completion
from millrace.wire.documents import Refused
from millrace.wire.embeddings import EmbeddingsAsked, read_embeddings
from millrace.wire.reading import LONG, decode
from millrace.wire.requests import Create, read_create
from millrace.wire.sessions import session_of
from millrace.wire.turns import has_references

# Nothing is wrong with the request, there is only no room for it: it is asked again later, as often as it takes.
LATER = frozenset({429, 503, 529})
# What a repeat would not mend, though a client may repeat it: it has had the time that it asked for.
NOT_AGAIN = frozenset({"deadline_exceeded", "slow_consumer", "request_timeout"})
OK = 200


class _EmbeddingsUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0


class _Embedded(msgspec.Struct):
    usage: _EmbeddingsUsage = _EmbeddingsUsage()


class NotNowError(Exception):
    """A request that was not run, or not answered, and may be later. `why` is for who looks at the batch."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.after_s = after_s


class LineAnswer(Struct, frozen=True, kw_only=True):
    """What an endpoint answers to a line: over HTTP it would be the same."""

    custom_id: str | None
    request_id: str
    body: bytes
    cost: Decimal = pricing.ZERO
    saved: Decimal = pricing.ZERO
    error: MillraceError | None = None  # why there is no answer; the body says so too
    is_line: bool = False  # the line itself is at fault, so that there is no request

    @property
    def status(self) -> int:
        """The status of HTTP."""
        return OK if self.error is None else self.error.rule.status

    @property
    def may_be_repeated(self) -> bool:
        """Whether the same request may be answered another time."""
        return self.error is not None and self.error.rule.retry and self.error.code not in NOT_AGAIN


class Asker:
    """Runs lines of batches, one by one, through the same rooms as the requests of visitors."""

    def __init__(
        self,
        *,
        intake: Intake,
        kept: Kept,
        embeddings: Embeddings,
        funnels: Funnels,
        memory: MemoryBudget,
        budget: Budget,
        principal_of: Callable[[str], Principal | None],
        on_taken: Callable[[], None],
    ) -> None:
        self._intake = intake
        self._kept = kept
        self._embeddings = embeddings
        self._funnels = funnels
        self._memory = memory
        self._budget = budget
        self._principal_of = principal_of
        self._on_taken = on_taken

    def call_of(self, batch: Batch, text: bytes) -> tuple[Call, Decimal] | None:
        """Return the one call that a line means, and what it is likely to cost in a batch of its provider.

        None unless it is one model that is to answer it, and nothing else matters. No answer of a provider's batch is
        cut where a budget ends, so what counts against one stays here, too.
        """
        if batch.endpoint == EMBEDDINGS:
            return None
        try:
            line = read_line(text, batch.endpoint)
            create = self._read(batch.endpoint, decode(line.body, "body"))
            _, strategy = self._funnels.catalog.resolve(create.model, create.strategy)
        except (BadLineError, MillraceError):  # it is told when the line is run
            return None
        model = {Strategy.SMALL: self._funnels.catalog.small, Strategy.LARGE: self._funnels.catalog.large}.get(strategy)
        prompt, principal = create.prompt, self._principal_of(batch.key_id)
        is_plain = (
            create.generate
            and create.cache is not CacheMode.ONLY
            and not create.concise
            and not (create.context or create.context_budget)
            and not (create.deadline_ms or create.max_cost_usd or create.idempotency_key)
            and create.previous_response_id is None
            and not (prompt.service_tier or has_references(prompt.messages))
        )
        if model is None or principal is None or not is_plain:
            return None
        if self._intake.has_budget(principal, create):
            return None
        counted = Counted(choice.estimated(prompt), self._funnels.catalog.ratios.of(model))
        call = Call(model=model, prompt=prompt, key_cap=principal.limits.max_output_tokens, counted=counted)
        price = model.price_of(BATCH_TIER)
        return call, pricing.cost(pricing.booking(call, counted.input_tokens), price)

    async def answer(self, batch: Batch, principal: Principal, text: bytes, before: Said | None = None) -> LineAnswer:
        """Return what becomes of a line; the call of its model gets what was said before. Raises `NotNowError`."""
        try:
            read = partial(read_line, text, batch.endpoint)
            line = read() if len(text) <= LONG else await in_thread(batch.tenant, len(text), read)
        except BadLineError as bad:  # it was found out before, unless the file was changed
            return refused(bad.error, bad.custom_id, is_line=True)
        try:
            if batch.endpoint == EMBEDDINGS:
                answer = await self._embed(batch, principal, line.body)
            else:
                answer = await self._run(batch, principal, line.body, before)
        except MillraceError as error:
            answer = refused(error)
        if answer.error is not None and answer.error.rule.status in LATER and answer.error.rule.retry:
            retry_ms = answer.error.retry_after_ms
            raise NotNowError(answer.error.message, None if retry_ms is None else retry_ms / 1000)
        return replace(answer, custom_id=line.custom_id)

    async def _run(self, batch: Batch, principal: Principal, body: bytes, before: Said | None) -> LineAnswer:
        held = self._memory.hold(principal.tenant)
        try:
            asked, repeat = await self._request(batch, principal, body, held)
            likely = cost = pricing.ZERO
            if before is not None and before.is_for(self._model_of(asked).id):  # what it costs is held already
                asked = _in_provider_batch(asked)
                said.set(before)  # for this line alone: it has a task of its own
            else:
                likely = self._reserved(choice.likely(asked, self._funnels.catalog).cost)
            try:
                with _later_if_spent(asked.max_cost):
                    run = await self._intake.start(asked, principal, held, repeat)
                await run.wait()
                answer, cost = _answer_of(run, batch.endpoint), _cost_of(run)
                if repeat is None:  # nobody resumes it, and it would push out what visitors may resume
                    self._kept.forget(run.request.id)
                with _later_if_spent(asked.max_cost):
                    if answer.error is not None and answer.error.code == "budget_exceeded":
                        raise answer.error
                if asked.max_cost is None and run.response.ended and run.response.ended.reason == "budget_exceeded":
                    raise NotNowError("a budget of its key ended within the answer")
                return answer
            finally:
                self._budget.settle(likely, cost)
        finally:
            held.close()

    async def _request(
        self, batch: Batch, principal: Principal, body: bytes, held: Hold
    ) -> tuple[Request, Repeat | None]:
        """Return the request that a line asks for. It is read elsewhere if it is long."""

        def read() -> tuple[Create, Repeat | None, str]:
            fields = decode(body, "body")
            create = self._read(batch.endpoint, fields)
            return create, repeat_of(create, fields, principal), session_of(fields, {})

        is_long = len(body) > LONG
        create, repeat, session = await in_thread(principal.tenant, len(body), read) if is_long else read()
        self._on_taken()
        asked = self._intake.read(create, principal, held, negotiated=False, session=session, streamed=False)
        return replace(asked, batch=batch.id), repeat

    def _read(self, endpoint: str, fields: dict[str, Any]) -> Create:
        if fields.get("stream"):
            raise invalid("stream", "stream: an answer in a batch comes whole; leave it out")
        return (read_completion if endpoint == CHAT else read_create)(fields, self._funnels.checks.names)

    def _model_of(self, asked: Request) -> Model:
        return self._funnels.catalog.small if asked.strategy is Strategy.SMALL else self._funnels.catalog.large

    async def _embed(self, batch: Batch, principal: Principal, body: bytes) -> LineAnswer:
        embeddings, principal = self._embeddings, behind_visitors(principal)
        if embeddings.served is None:
            raise not_served()
        if self._intake.closed:
            raise NotNowError("the server is about to end")

        def read() -> tuple[EmbeddingsAsked, bytes]:
            asked = read_embeddings(decode(body, "body"))
            return asked, asked.body_for(self._funnels.catalog.embeddings_model(asked.model))

        is_long = len(body) > LONG
        asked, sent = await in_thread(principal.tenant, len(body), read) if is_long else read()
        likely, cost = self._reserved(embeddings.cost(asked.tokens)), pricing.ZERO
        request_id = new_id()
        try:
            with _later_if_spent(None):
                async with embeddings.answered(request_id, asked, sent, principal, batch=batch.id) as pieces:
                    answer = b"".join(pieces)
            cost = embeddings.cost(_tokens_of(answer) or asked.tokens)
            return LineAnswer(custom_id=None, request_id=request_id, body=answer, cost=cost)
        finally:
            self._budget.settle(likely, cost)

    def _reserved(self, likely: Decimal) -> Decimal:
        """Reserve dollars of the batches' own budget, and return them."""
        if self._budget.never_pays(likely):
            message = f"this request may cost ${likely:f}, more than batch.dollars_per_day; lower max_output_tokens"
            raise MillraceError("budget_exceeded", message)
        if not self._budget.reserve(likely):
            raise NotNowError(self._budget.why_not(likely))
        return likely


@contextmanager
def _later_if_spent(max_cost: Decimal | None) -> Iterator[None]:
    """Have a request wait where a budget has no more, unless it is its own."""
    try:
        yield
    except MillraceError as error:
        if error.code == "budget_exceeded" and max_cost is None:
            raise NotNowError(error.message) from error
        raise


def refused(error: MillraceError, custom_id: str | None = None, *, is_line: bool = False) -> LineAnswer:
    """Return the answer to a request that has none."""
    usage = msgspec.to_builtins(error.usage) if isinstance(error, FailedWithUsage) else msgspec.UNSET
    return LineAnswer(
        custom_id=custom_id,
        request_id=response_id(),
        body=msgspec.json.encode(Refused(wire.error_body(error), usage)),
        error=error,
        is_line=is_line,
    )


def _in_provider_batch(asked: Request) -> Request:
    """Return a request whose answer a provider's batch has brought: it is paid for, so no cache answers it."""
    prompt = dataclasses.replace(asked.prompt, extras={**asked.prompt.extras, "service_tier": BATCH_TIER})
    return replace(asked, prompt=prompt, cache=CacheMode.OFF if asked.cache is CacheMode.OFF else CacheMode.REFRESH)


def _answer_of(run: Run, endpoint: str) -> LineAnswer:
    found = LineAnswer(custom_id=None, request_id=run.request.id, body=b"", cost=_cost_of(run))
    ended = run.response.ended
    found = found if ended is None else replace(found, saved=ended.statement.saved)
    try:
        return replace(found, body=_body_of(run, endpoint))
    except MillraceError as error:
        return replace(found, body=refused(error).body, error=error)


def _cost_of(run: Run) -> Decimal:
    ended = run.response.ended
    return pricing.ZERO if ended is None else ended.statement.cost


def _body_of(run: Run, endpoint: str) -> bytes:
    """Return the body that the endpoint answers with, or raise why there is none."""
    ended = run.response.ended
    assert ended is not None, "it has ended"
    if ended.status is Status.CANCELLED:
        raise MillraceError("cancelled", "the request was cancelled")
    if endpoint == CHAT:
        return msgspec.json.encode(completion_of(run.response, run.created_at))
    body = body_of(run.response, run.created_at)
    if body.error is not None and ended.error is not None:
        raise FailedWithUsage(ended.error, body.usage)
    return wire.encode(body)


def _tokens_of(answer: bytes) -> int:
    try:
        return msgspec.json.decode(answer, type=_Embedded).usage.prompt_tokens
    except msgspec.DecodeError:
        return 0
