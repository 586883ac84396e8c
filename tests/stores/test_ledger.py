"""From a bill to a row: what is written before a call, after it, and by the start that follows a crash."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec.structs import replace

from millrace.pricing import NANODOLLAR
from millrace.stores.database import FILE
from millrace.types import (
    CacheOutcome,
    CallPiece,
    Judgement,
    Near,
    Outcome,
    Scores,
    Source,
    Story,
    Thought,
    Tier,
    Usage,
)
from tests.support.bills import LARGE, REQUEST, SMALL, USAGE, Store, StubAttempt, call, settle

STORY = Story(
    near=(Near(entry_id="ans_1", similarity=0.9, log_odds=-1.0),),
    scores=Scores(tier=Tier.SMALL, score=0.1, threshold=None, labels=0, reason="small first"),
    judgements=(Judgement(tier=Tier.SMALL, check=None),),
)


async def test_a_row_is_open_before_and_settled_after(store: Store) -> None:
    """The open row holds the worst case; settling replaces it, and there is never a second one."""
    bill = store.bill(replace(REQUEST, user="someone", tag="night"))
    assert await store.rows() == []
    call(bill, SMALL, StubAttempt(usage=USAGE))
    (row,) = await store.rows()
    assert (row["request_id"], row["status"], row["estimated"], row["source"]) == ("resp_1", "open", 1, None)
    assert (row["input_tokens"], row["output_tokens"]) == (10, 100)
    assert row["cost_nanodollars"] == 10 * 150 + 100 * 600
    assert row["story"] == ""
    settle(bill, story=STORY)
    (row,) = await store.rows()
    counts = {"input_tokens": 8, "cached_input_tokens": 0, "output_tokens": 20, "reasoning_tokens": 0, "estimated": 0}
    counts["cost_nanodollars"] = 8 * 150 + 20 * 600
    made = counts | {"model": "small-model", "tier": "small", "outcome": "answered"}
    assert json.loads(row.pop("calls")) == [made | {"price": {"input": "0.15", "output": "0.60"}}]
    assert json.loads(row.pop("baseline")) == {"input": "2.50", "output": "10.00"}
    assert msgspec.json.decode(row.pop("story"), type=Story) == STORY
    assert row == counts | {
        "cache_write_tokens": 0,
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
        "entry_id": "",
        "stored_id": "",
        "epoch": "",
        "booked_nanodollars": 0,
        "session": "",
        "end_user": "someone",
        "tag": "night",
        "batch": "",
        "shape": "",
    }


async def test_what_was_written_to_the_cache_of_a_provider_is_in_the_row(store: Store) -> None:
    """And in its call, also what was written for an hour; a call that wrote nothing says nothing of it."""
    bill = store.bill()
    written = Usage(input_tokens=9, cache_write_tokens=8, cache_write_1h_tokens=3, output_tokens=1)
    call(bill, LARGE, StubAttempt(usage=written))
    settle(bill)
    (row,) = await store.rows()
    (made,) = json.loads(row["calls"])
    assert (row["cache_write_tokens"], made["cache_write_tokens"], made["cache_write_1h_tokens"]) == (8, 8, 3)


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


async def test_a_start_closes_what_a_crash_left_open(tmp_path: Path) -> None:
    """Killed, at what it may have cost at most, marked as an estimate; settled rows stay as they are."""
    crashed = Store(str(tmp_path))
    settle(crashed.bill(replace(REQUEST, id="resp_0")), latency_ms=1)
    call(crashed.bill(), LARGE, StubAttempt())
    await crashed.rows()  # written; and nothing more comes from that process
    again = Store(str(tmp_path))
    again.ledger.close_left(frozenset)
    settled, killed = await again.rows()
    assert (settled["status"], settled["estimated"]) == ("completed", 0)
    assert (killed["status"], killed["estimated"]) == ("killed", 1)
    assert killed["cost_nanodollars"] == 10 * 2500 + 100 * 10_000
    for store in (crashed, again):
        store.database.close()


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
    charge = call(store.bill(), SMALL, attempt, Outcome.RUNNING)
    assert charge.usage.output_tokens == 3 + 60 // 5
    charge.outcome = Outcome.CANCELLED
    assert charge.usage.output_tokens == 3 + 12
    assert charge.usage.estimated


EARLIEST = """
CREATE TABLE entries (
    request_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, opened_at REAL NOT NULL, status TEXT NOT NULL, source TEXT,
    cache TEXT NOT NULL, strategy TEXT NOT NULL, failed_check TEXT, code TEXT, input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    estimated INTEGER NOT NULL, cost_nanodollars INTEGER NOT NULL, saved_nanodollars INTEGER NOT NULL, ttft_ms REAL,
    latency_ms REAL NOT NULL, calls TEXT NOT NULL
) STRICT
"""
OLD = """
INSERT INTO entries VALUES (
    'old', 't', 1, 'completed', 'small', 'miss', 'auto', NULL, NULL, 1, 0, 1, 0, 0, 5, 0, NULL, 1, '[]'
)
"""


async def test_the_ledger_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its rows belong to no session. What it lacks is added, in the order of the versions."""
    with closing(sqlite3.connect(tmp_path / FILE)) as earlier:
        earlier.execute(EARLIEST)
        earlier.execute(OLD)
        earlier.commit()
    store = Store(str(tmp_path))
    settle(store.bill(replace(REQUEST, session="ses_1")))
    old, new = await store.rows()
    assert (old["request_id"], old["session"], old["trimmed_tokens"]) == ("old", "", 0)
    assert new["session"] == "ses_1"
    (bill,) = await store.ledger.bills.sessions(0.0, most=10)
    assert (bill.session, bill.tenant, bill.requests) == ("ses_1", REQUEST.tenant, 1)
    store.database.close()


async def test_the_bills_of_sessions(tmp_path: Path) -> None:
    """The latest first, each of its tenant; what is still open is not on them."""
    store = Store(str(tmp_path))
    for number, (session, tenant) in enumerate((("a", "t"), ("b", "t"), ("a", "u"), ("a", "t"))):
        bill = store.bill(replace(REQUEST, id=f"resp_{number}", session=session, tenant=tenant))
        call(bill, SMALL, StubAttempt(usage=USAGE))
        settle(bill)
    running = store.bill(replace(REQUEST, id="resp_9", session="c"))
    call(running, SMALL, StubAttempt(usage=USAGE), Outcome.RUNNING)
    await store.database.ready()
    bills = await store.ledger.bills.sessions(0.0, most=10)
    cost = (USAGE.input_tokens * SMALL.price.input + USAGE.output_tokens * SMALL.price.output) / 10**6
    assert sorted((bill.session, bill.tenant, bill.requests, bill.cost) for bill in bills) == [
        ("a", "t", 2, 2 * cost),
        ("a", "u", 1, cost),
        ("b", "t", 1, cost),
    ]
    assert len(await store.ledger.bills.sessions(0.0, most=1)) == 1
    assert await store.ledger.bills.sessions(2e9, most=10) == []
    store.database.close()


async def test_what_batches_have_cost(store: Store) -> None:
    """One of them, and all since a time; what is open counts at its highest."""
    for number, batch in enumerate(["batch_1", "batch_1", "batch_2", ""]):
        bill = store.bill(replace(REQUEST, id=f"resp_{number}", batch=batch))
        call(bill, SMALL, StubAttempt(usage=USAGE))
        if number:
            settle(bill)
    settled, highest = (8 * 150 + 20 * 600) * NANODOLLAR, (10 * 150 + 100 * 600) * NANODOLLAR
    assert (await store.ledger.batch_cost("batch_1"))[0] == settled + highest
    assert (await store.ledger.batch_cost("batch_2"))[1] == (8 * (2500 - 150) + 20 * (10_000 - 600)) * NANODOLLAR
    assert (await store.ledger.batch_cost(""))[0] == 0
    assert await store.ledger.batches_cost(1_700_000_000.0) == 2 * settled + highest
    assert await store.ledger.batches_cost(1_700_000_001.0) == 0
