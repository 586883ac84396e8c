"""From a bill to a row: what is written before a call, after it, and by the start that follows a crash."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from millrace.funnel.bill import Bill, OpenCharge, milliseconds
from millrace.ports import Sink
from millrace.stores.database import BATCH, FILE, MEMORY, Operation, SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.types import (
    Aside,
    CacheMode,
    CacheOutcome,
    Call,
    CallPiece,
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
    Thought,
    Tier,
    Usage,
)

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
        self.sent = True
        self.usage = usage
        self.sink: Sink = self.parts.extend
        self.done: asyncio.Future[Finish]  # nobody waits for it here

    def abort(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Store:
    """A database with a ledger, and a look into it."""

    def __init__(self, data_dir: str) -> None:
        self.database = SqliteDatabase(data_dir)
        self.ledger = SqliteLedger(self.database)

    def bill(self, request: Request = REQUEST) -> Bill:
        bill = Bill(request, LARGE.price, self.ledger, 1_700_000_000.5)
        bill.input_tokens = 10
        return bill

    async def rows(self) -> list[dict[str, Any]]:
        def select(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            cursor = connection.execute("SELECT * FROM entries ORDER BY rowid")
            return [dict(zip([column[0] for column in cursor.description], row, strict=True)) for row in cursor]

        found: list[dict[str, Any]] = await self.database.read(select)
        return found


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(MEMORY)
    yield made
    made.database.close()


def call(bill: Bill, model: Model, attempt: StubAttempt, outcome: Outcome = Outcome.ANSWERED) -> OpenCharge:
    line = bill.open(Call(model=model, prompt=REQUEST.prompt), attempt)
    line.outcome = outcome
    return line


def settle(bill: Bill, **fields: Any) -> Entry:
    known: dict[str, Any] = {"status": Status.COMPLETED, "source": Source.SMALL, "cache": CacheOutcome.MISS}
    known |= {"check": None, "code": None, "ttft_ms": 12.5, "latency_ms": 80.0, "statement": bill.statement()}
    return bill.settle(**known | fields)


async def test_a_row_is_open_before_and_settled_after(store: Store) -> None:
    """The open row holds the worst case; settling replaces it, and there is never a second one."""
    bill = store.bill()
    assert await store.rows() == []
    call(bill, SMALL, StubAttempt(usage=USAGE))
    (row,) = await store.rows()
    assert (row["request_id"], row["status"], row["estimated"], row["source"]) == ("resp_1", "open", 1, None)
    assert (row["input_tokens"], row["output_tokens"]) == (10, 100)
    assert row["cost_nanodollars"] == 10 * 150 + 100 * 600
    settle(bill)
    (row,) = await store.rows()
    counts = {"input_tokens": 8, "cached_input_tokens": 0, "output_tokens": 20, "reasoning_tokens": 0, "estimated": 0}
    counts["cost_nanodollars"] = 8 * 150 + 20 * 600
    assert json.loads(row.pop("calls")) == [counts | {"model": "small-model", "tier": "small", "outcome": "answered"}]
    assert row == counts | {
        "request_id": "resp_1",
        "tenant": "anonymous",
        "opened_at": 1_700_000_000.5,
        "status": "completed",
        "source": "small",
        "cache": "miss",
        "strategy": "cascade",
        "failed_check": None,
        "code": None,
        "saved_nanodollars": 8 * (2500 - 150) + 20 * (10_000 - 600),
        "ttft_ms": 12.5,
        "latency_ms": 80.0,
        "trimmed_tokens": 0,
        "key_id": "",
    }


async def test_the_cost_is_the_sum_of_the_calls(store: Store) -> None:
    """A revised draft and the answer that replaced it: both are paid, the tokens are the answer's."""
    bill = store.bill()
    call(bill, SMALL, StubAttempt(words=3), Outcome.REVISED)
    shown = call(bill, LARGE, StubAttempt(usage=Usage(input_tokens=9, output_tokens=50)))
    entry = settle(bill, source=Source.LARGE, check="unsure", statement=bill.statement(shown.usage))
    (row,) = await store.rows()
    assert (row["source"], row["failed_check"]) == ("large", "unsure")
    calls = json.loads(row["calls"])
    assert [(made["model"], made["outcome"], made["estimated"]) for made in calls] == [
        ("small-model", "revised", True),
        ("large-model", "answered", False),
    ]
    assert row["cost_nanodollars"] == sum(made["cost_nanodollars"] for made in calls)
    assert calls[0]["cost_nanodollars"] == 10 * 150 + 3 * 600
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (9, 50, 1)
    assert entry.statement.saved == -entry.statement.charges[0].cost
    assert row["saved_nanodollars"] == -calls[0]["cost_nanodollars"]


async def test_a_cached_answer_has_one_row_and_no_calls(store: Store) -> None:
    """It was never open, costs nothing, and saves what the large model would have charged."""
    settle(bill := store.bill(), source=Source.CACHE, cache=CacheOutcome.EXACT, statement=bill.statement(USAGE))
    (row,) = await store.rows()
    assert (row["calls"], row["cost_nanodollars"], row["cache"]) == ("[]", 0, "exact")
    assert row["saved_nanodollars"] == 8 * 2500 + 20 * 10_000


@pytest.mark.parametrize(
    ("attempt", "billable", "usage"),
    [
        (StubAttempt(words=3), True, Usage(input_tokens=10, output_tokens=3, estimated=True)),
        (StubAttempt(), False, Usage()),
        (StubAttempt(words=3, usage=USAGE), True, USAGE),
        (StubAttempt(usage=USAGE), False, USAGE),
    ],
)
def test_usage_is_reported_or_estimated_or_none(attempt: StubAttempt, usage: Usage, *, billable: bool) -> None:
    """A provider's own figures go first; without them tokens are counted, unless the call surely cost nothing."""
    line = OpenCharge(Call(model=SMALL, prompt=REQUEST.prompt), attempt, input_tokens=10)
    line.billable = billable
    assert line.usage == usage
    assert line.so_far.cost == Decimal(usage.input_tokens * 150 + usage.output_tokens * 600) / 10**9
    assert line.so_far.outcome is Outcome.RUNNING


@pytest.mark.parametrize("reported", [None, Usage(input_tokens=12, output_tokens=9)])
async def test_a_bill_that_is_handed_over_adds_up_to_the_call(store: Store, reported: Usage | None) -> None:
    """Who leaves pays the input and what came until then, the heir the rest; also over two heirs."""
    bills = [store.bill(replace(REQUEST, id=f"resp_{number}")) for number in range(3)]
    attempt = StubAttempt(words=2)
    line = bills[0].open(Call(model=SMALL, prompt=REQUEST.prompt), attempt)
    for leaver, heir in pairwise(bills):
        leaver.hand_over(heir)
        settle(leaver, status=Status.CANCELLED)
        attempt.parts += [" mill"] * 3
    attempt.usage, line.outcome = reported, Outcome.ANSWERED
    settle(bills[2])
    calls = [made for row in await store.rows() for made in json.loads(row["calls"])]
    assert [made["outcome"] for made in calls] == ["cancelled", "cancelled", "answered"]
    whole = reported or Usage(input_tokens=10, output_tokens=8)
    assert sum(made["input_tokens"] for made in calls) == whole.input_tokens
    assert sum(made["output_tokens"] for made in calls) == whole.output_tokens
    assert calls[0]["input_tokens"] == 10
    assert [made["output_tokens"] for made in calls[:2]] == [2, 3]


async def test_what_was_trimmed_is_in_the_row_and_in_the_saving(store: Store) -> None:
    """The large model alone would have been sent all of it."""
    bill = store.bill()
    bill.trimmed_tokens = 100
    call(bill, LARGE, StubAttempt(usage=USAGE))
    settle(bill)
    (row,) = await store.rows()
    assert (row["trimmed_tokens"], row["saved_nanodollars"]) == (100, 100 * 2500)


async def test_nothing_is_saved_by_not_answering(store: Store) -> None:
    """What a cancelled or failed request cost is booked, and no saving is claimed for it."""
    bill = store.bill()
    call(bill, SMALL, StubAttempt(words=10), Outcome.CANCELLED)
    settle(bill, status=Status.CANCELLED, code="cancelled", statement=bill.statement(answered=False))
    (row,) = await store.rows()
    assert (row["status"], row["code"], row["saved_nanodollars"]) == ("cancelled", "cancelled", 0)
    assert row["cost_nanodollars"] == 10 * 150 + 10 * 600


def test_a_bill_is_settled_once(store: Store) -> None:
    """A second settlement is a fault of this program, not a second row."""
    bill = store.bill()
    settle(bill)
    with pytest.raises(AssertionError, match="settled once"):
        settle(bill)


class Reserved:
    """An admission that notes what it is settled with."""

    def __init__(self) -> None:
        self.settled: list[tuple[Decimal, int]] = []

    def settle(self, cost: Decimal, tokens: int) -> None:
        self.settled.append((cost, tokens))


async def test_what_was_reserved_is_settled_with_the_bill(store: Store) -> None:
    """By the cost and the tokens of all its calls; and with nothing where the request never became a response."""
    settled, voided = Reserved(), Reserved()
    bill = Bill(REQUEST, LARGE.price, store.ledger, 0.0, settled)
    bill.input_tokens = 10
    call(bill, SMALL, StubAttempt(usage=Usage(input_tokens=10, output_tokens=5)), Outcome.REVISED)
    call(bill, LARGE, StubAttempt(usage=Usage(input_tokens=10, output_tokens=7)))
    assert settled.settled == []
    settle(bill)
    assert settled.settled == [(bill.statement().cost, 32)]
    Bill(REQUEST, LARGE.price, store.ledger, 0.0, voided).void()
    assert voided.settled == [(Decimal(0), 0)]


async def test_a_start_closes_what_a_crash_left_open(tmp_path: Path) -> None:
    """Killed, at what it may have cost at most, marked as an estimate; settled rows stay as they are."""
    crashed = Store(str(tmp_path))
    settle(crashed.bill(replace(REQUEST, id="resp_0")), latency_ms=1)
    call(crashed.bill(), LARGE, StubAttempt())
    await crashed.rows()  # written; and nothing more comes from that process
    again = Store(str(tmp_path))
    settled, killed = await again.rows()
    assert (settled["status"], settled["estimated"]) == ("completed", 0)
    assert (killed["status"], killed["estimated"]) == ("killed", 1)
    assert killed["cost_nanodollars"] == 10 * 2500 + 100 * 10_000
    for store in (crashed, again):
        store.database.close()


def test_milliseconds() -> None:
    """Of two readings; None where one was never taken."""
    assert milliseconds(1.0, 1.25) == 250.0
    assert milliseconds(None, 1.0) is milliseconds(1.0, None) is None


def insert(number: int) -> Operation:
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,))


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY rowid")]


@pytest.fixture
def database() -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(MEMORY)
    made.write(lambda connection: connection.execute("CREATE TABLE numbers (number INTEGER UNIQUE) STRICT"))
    yield made
    made.close()


async def test_writes_keep_their_order_and_a_read_comes_after_them(database: SqliteDatabase) -> None:
    """Also over more than one batch: a read sees all that was written before it, and nothing written after."""
    for number in range(2 * BATCH + 7):
        database.write(insert(number))
    seen = asyncio.ensure_future(database.read(numbers))
    await asyncio.sleep(0)
    database.write(insert(-1))
    assert await seen == [*range(2 * BATCH + 7)]


async def test_a_failing_write_does_not_lose_its_neighbours(database: SqliteDatabase) -> None:
    """The three wait together and are one batch; the second breaks a constraint."""
    held = threading.Event()
    database.write(lambda _: held.wait())
    for number in (1, 1, 2):
        database.write(insert(number))
    held.set()
    assert await database.read(numbers) == [1, 2]


async def test_a_failing_read_is_raised_to_whoever_asked(database: SqliteDatabase) -> None:
    """The next one is answered."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.read(lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert await database.read(numbers) == []


async def test_a_reader_who_has_gone_is_not_answered(database: SqliteDatabase) -> None:
    """A cancelled read leaves the store as it was."""
    reading = asyncio.ensure_future(database.read(numbers))
    await asyncio.sleep(0)
    reading.cancel()
    assert await database.read(numbers) == []
    assert reading.cancelled()


def test_closing_flushes(tmp_path: Path) -> None:
    """What is queued is on the disk when `close` returns; the folder is the owner's alone."""
    folder = tmp_path / "new" / "data"
    database = SqliteDatabase(str(folder))
    database.write(lambda connection: connection.execute("CREATE TABLE numbers (number INTEGER) STRICT"))
    for number in range(BATCH + 3):
        database.write(insert(number))
    database.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    with closing(sqlite3.connect(folder / FILE)) as connection:
        assert numbers(connection) == [*range(BATCH + 3)]


async def test_a_value_the_database_cannot_hold_harms_nobody_else() -> None:
    """The thread lives on, the neighbours are written, and whoever reads is told."""
    database = SqliteDatabase(":memory:")
    database.write(lambda connection: connection.execute("CREATE TABLE t (n INTEGER)"))
    database.write(lambda connection: connection.execute("INSERT INTO t VALUES (?)", (2**63,)))
    database.write(lambda connection: connection.execute("INSERT INTO t VALUES (7)"))
    assert await database.read(lambda connection: connection.execute("SELECT n FROM t").fetchall()) == [(7,)]
    with pytest.raises(OverflowError):
        await database.read(lambda connection: connection.execute("SELECT ?", (2**63,)))
    await asyncio.to_thread(database.close)
    with pytest.raises(sqlite3.ProgrammingError):
        await database.read(lambda connection: None)


async def test_a_table_of_the_first_version_is_brought_up(tmp_path: Path) -> None:
    """Its rows stay, and new ones are written."""
    with closing(sqlite3.connect(tmp_path / FILE)) as old, old:
        old.execute(
            "CREATE TABLE entries (request_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, opened_at REAL NOT NULL,"
            " status TEXT NOT NULL, source TEXT, cache TEXT NOT NULL, strategy TEXT NOT NULL, failed_check TEXT,"
            " code TEXT, input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,"
            " output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL,"
            " cost_nanodollars INTEGER NOT NULL, saved_nanodollars INTEGER NOT NULL, ttft_ms REAL,"
            " latency_ms REAL NOT NULL, calls TEXT NOT NULL) STRICT"
        )
        old.execute(
            "INSERT INTO entries VALUES"
            " ('old', 't', 1, 'completed', 'small', 'miss', 'auto', NULL, NULL, 1, 0, 1, 0, 0, 1, 1, 1, 1, '[]')"
        )
    store = Store(str(tmp_path))
    settle(store.bill())
    rows = await store.rows()
    assert [(row["request_id"], row["trimmed_tokens"]) for row in rows] == [("old", 0), ("resp_1", 0)]
    store.database.close()


def test_reasoning_and_tool_calls_are_output(store: Store) -> None:
    """While a call runs their length tells about how much; afterwards their tokens are counted."""
    attempt = StubAttempt(words=3)
    attempt.asides += [Thought(" mill" * 10), CallPiece(index=0, id="c", name=" mill", arguments=" mill")]
    line = call(store.bill(), SMALL, attempt, Outcome.RUNNING)
    assert line.usage.output_tokens == 3 + 60 // 5
    line.outcome = Outcome.CANCELLED
    assert line.usage.output_tokens == 3 + 12
    assert line.usage.estimated
