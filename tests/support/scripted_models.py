"""Models that follow a script, and a funnel of the real parts around them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from millrace.errors import UpstreamError
from millrace.funnel.calls import Caller
from millrace.funnel.catalog import Catalog
from millrace.funnel.checks import Checks
from millrace.funnel.checks.guards import Guards
from millrace.funnel.checks.openings import LearnedOpenings
from millrace.funnel.funnel import Funnel
from millrace.funnel.health import Health
from millrace.funnel.hedging import Hedging
from millrace.funnel.pools import Pool
from millrace.funnel.recall import Recall
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.routing.choice import Policy
from millrace.funnel.routing.router import Router
from millrace.memory import Shares
from millrace.ports import Clock, ExactCache, Sink, Upstream
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.types import (
    Aside,
    CacheMode,
    Call,
    Delivery,
    Deployment,
    Finish,
    FinishReason,
    Message,
    Model,
    Price,
    Prompt,
    Request,
    Strategy,
    Tier,
    Usage,
)
from tests.support.inline_schemas import InlineSchemas

Step = str | Aside | Finish | UpstreamError

STOP = Finish(reason=FinishReason.STOP)
CALLED = Finish(reason=FinishReason.TOOL_CALLS)
CUT = Finish(reason=FinishReason.LENGTH)
SMALL = Model(
    tier=Tier.SMALL,
    id="small-model",
    address="",
    price=Price(input=Decimal("0.15"), output=Decimal("0.60")),
    context_window=128_000,
    max_output_tokens=1024,
)
LARGE = replace(SMALL, tier=Tier.LARGE, id="large-model", price=Price(input=Decimal("2.50"), output=Decimal("10.00")))
CATALOG = Catalog(SMALL, LARGE, {}, Strategy.AUTO)
POLICY = Policy(context_budget=None, grace_ms=0, hedge_ms=0, concise_line="Be brief.")


def request(*asked: Message, strategy: Strategy = Strategy.CASCADE, **fields: Any) -> Request:
    """Return a request; fields of a prompt go to its prompt."""
    of_prompt = {name: fields.pop(name) for name in [*fields] if name in Prompt.__dataclass_fields__}
    known: dict[str, Any] = {
        "id": "resp_1",
        "tenant": "anonymous",
        "model": "auto",
        "strategy": strategy,
        "delivery": Delivery.SPECULATE,
        "cache": CacheMode.ON,
        "prompt": Prompt(messages=asked or (Message(role="user", parts=("How deep is it?",)),), **of_prompt),
        "metadata": {},
    }
    return Request(**known | fields)


class ScriptedAttempt:
    """One call: takes one step of its script a turn of the loop; the last one ends it. One delta is one token."""

    def __init__(self, call: Call, steps: Sequence[Step]) -> None:
        self.call = call
        self.sink: Sink = _nowhere
        self.aside: Callable[[Aside], None] = _nowhere
        self.on_begin: Callable[[], None] = _nothing
        self.done: asyncio.Future[Finish] = asyncio.get_running_loop().create_future()
        self.parts: list[str] = []
        self.asides: list[Aside] = []
        self.sent = True
        self.notes: tuple[str, ...] = ()
        self.retried_after = ""
        self.service_tier = ""
        self.usage: Usage | None = None
        self.limited_to: int | None = None
        self.input_usage: Usage | None = None
        self.aborted = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._task = asyncio.get_running_loop().create_task(self._run(steps))

    async def _run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await asyncio.sleep(0)
            await self._flowing.wait()
            if len(self.parts) == self.call.max_output_tokens:
                step = CUT  # noqa: PLW2901 - no model says more than it may
            if isinstance(step, str):
                self._note_begin(step)
                self.parts.append(step)
                self.sink([step])
            elif isinstance(step, Finish):
                self.usage = Usage(input_tokens=8, output_tokens=len(self.parts) + len(self.asides))
                self.done.set_result(step)
                return
            elif isinstance(step, UpstreamError):
                self.done.set_exception(step)
                return
            else:
                self._note_begin()
                self.asides.append(step)
                self.aside(step)

    def _note_begin(self, text: str = ".") -> None:
        if not self.asides and not "".join(self.parts).strip() and text.strip():
            self.on_begin()

    def abort(self) -> None:
        self.aborted = True
        self._task.cancel()
        self.done.cancel()

    def limit(self, output_tokens: int) -> None:
        self.limited_to = output_tokens

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()


class ScriptedUpstream:
    """A provider; each call gets the next script, and all further calls the last one."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = [*scripts]
        self.attempts: list[ScriptedAttempt] = []

    def open(self, call: Call) -> ScriptedAttempt:
        script = self.scripts[min(len(self.attempts), len(self.scripts) - 1)]
        self.attempts.append(ScriptedAttempt(call, script))
        return self.attempts[-1]


def health_of(small: Upstream, large: Upstream, clock: Clock, wall: Clock = time.time) -> Health:
    """Return the health of the two models, which have one deployment each."""
    pools = [Pool(model, [(Deployment(), upstream)], clock) for model, upstream in ((SMALL, small), (LARGE, large))]
    return Health(pools, CATALOG, clock, wall)


class ScriptedFunnel:
    """A funnel with two scripted models."""

    def __init__(
        self,
        small: ScriptedUpstream,
        large: ScriptedUpstream,
        database: SqliteDatabase,
        exact: ExactCache | None = None,
        guards: Guards | None = None,
        hedging: Hedging | None = None,
        *,
        repairs: bool = False,
        router: Router | None = None,
    ) -> None:
        self.small, self.large = small, large
        health = health_of(small, large, time.monotonic)
        self.funnel = Funnel(
            catalog=CATALOG,
            caller=Caller(
                health,
                Checks(InlineSchemas(), openings=LearnedOpenings(time.time)),
                CATALOG,
                guards,
                hedging,
                repairs=repairs,
            ),
            recall=Recall(CATALOG, exact, None, guards=guards),
            ledger=SqliteLedger(database),
            wall=lambda: 1_700_000_000.0,
            policy=POLICY,
            router=router or Router(time.time),
            places=Shares(lambda: 100, lambda: False),
        )

    async def ask(self, asked: Request) -> ResponseLog:
        """Return the log of an answered request."""
        response = ResponseLog(asked, asyncio.get_running_loop().time)
        await self.funnel.answer(response)
        return response


@asynccontextmanager
async def scripted_funnel(
    small: Sequence[Step],
    large: Sequence[Step] = ("Large.", STOP),
    exact: Callable[[SqliteDatabase], ExactCache] | None = None,
    guards: Guards | None = None,
) -> AsyncIterator[ScriptedFunnel]:
    """Build a funnel; `exact` makes a cache."""
    database = SqliteDatabase(MEMORY)
    try:
        yield ScriptedFunnel(
            ScriptedUpstream(small), ScriptedUpstream(large), database, exact(database) if exact else None, guards
        )
    finally:
        await asyncio.to_thread(database.close)


def _nowhere(_: object) -> None:
    """Take words before anybody listens."""


def _nothing() -> None:
    """Nobody wants to know when it begins."""
