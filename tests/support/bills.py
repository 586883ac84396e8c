"""Bills on a real ledger, and calls of which a test says what they have used."""

import asyncio
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from millrace.funnel.bill import Bill
from millrace.funnel.open_charge import OpenCharge
from millrace.ports import Sink
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.types import (
    Aside,
    CacheMode,
    CacheOutcome,
    Call,
    Delivery,
    Entry,
    Finish,
    Message,
    Model,
    Outcome,
    Price,
    Prompt,
    Request,
    Source,
    Status,
    Strategy,
    Tier,
    Usage,
)
from tests.support.looks import look

SMALL = Model(
    tier=Tier.SMALL,
    id="small-model",
    address="",
    price=Price(input=Decimal("0.15"), output=Decimal("0.60")),
    context_window=1000,
    max_output_tokens=100,
)
LARGE = replace(SMALL, tier=Tier.LARGE, id="large-model", price=Price(input=Decimal("2.50"), output=Decimal("10.00")))
REQUEST = Request(
    id="resp_1",
    tenant="anonymous",
    model="auto",
    strategy=Strategy.CASCADE,
    delivery=Delivery.PREFIX,
    cache=CacheMode.ON,
    prompt=Prompt(messages=(Message(role="user", parts=("Hi",)),)),
    metadata={},
)
USAGE = Usage(input_tokens=8, output_tokens=20)


class StubAttempt:
    """A call that has received so many words, one token each, and of which so much is reported."""

    def __init__(self, words: int = 0, usage: Usage | None = None) -> None:
        self.parts = [" mill"] * words
        self.asides: list[Aside] = []
        self.aside: Callable[[Aside], None] = self.asides.append
        self.on_begin: Callable[[], None] = lambda: None
        self.sent = True
        self.notes: tuple[str, ...] = ()
        self.retried_after = ""
        self.service_tier = ""
        self.usage = usage
        self.limited_to: int | None = None
        self.input_usage: Usage | None = None
        self.sink: Sink = self.parts.extend
        self.done: asyncio.Future[Finish]  # nobody waits for it here

    def limit(self, output_tokens: int) -> None:
        self.limited_to = output_tokens

    def abort(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Store:
    """A database with a ledger, and a look into it."""

    def __init__(self, data_dir: str, epoch: str = "") -> None:
        self.database = SqliteDatabase(data_dir)
        self.ledger = SqliteLedger(self.database, epoch)

    def bill(self, request: Request = REQUEST) -> Bill:
        bill = Bill(request, LARGE.price, self.ledger, 1_700_000_000.5)
        bill.input_tokens = 10
        return bill

    async def rows(self) -> list[dict[str, Any]]:
        def select(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            cursor = connection.execute("SELECT * FROM entries ORDER BY rowid")
            return [dict(zip([column[0] for column in cursor.description], row, strict=True)) for row in cursor]

        found: list[dict[str, Any]] = await look(self.database, select)
        return found


def call(bill: Bill, model: Model, attempt: StubAttempt, outcome: Outcome = Outcome.ANSWERED) -> OpenCharge:
    charge = bill.open(Call(model=model, prompt=REQUEST.prompt), attempt)
    charge.outcome = outcome
    return charge


def settle(bill: Bill, **fields: Any) -> Entry:
    known: dict[str, Any] = {"status": Status.COMPLETED, "source": Source.SMALL, "cache": CacheOutcome.MISS}
    known |= {"check": None, "code": None, "ttft_ms": 12.5, "latency_ms": 80.0, "statement": bill.statement()}
    return bill.settle(**known | fields)
