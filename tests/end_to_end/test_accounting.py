"""Every token and every cent is in the ledger, however requests end. `python -m tests.measure_accounting` runs more."""

from dataclasses import replace
from pathlib import Path

import pytest

from millrace.simulator import LARGE
from tests.accounting.audit import Audit, Call, Row, audit, mispriced
from tests.accounting.kinds import KINDS, Ask, Asks
from tests.accounting.recorder import RecordedCall, RecordingStats
from tests.accounting.run import phase

REQUESTS = 700
AROUND_S = 10.0  # of an abort: here a busy machine may take its time, only what was sent bounds an estimate
COMPLETED, REFUSED = KINDS[0], KINDS[-1]


@pytest.mark.timeout(240)
async def test_requests_that_end_in_every_way_are_in_the_ledger_once_and_to_the_token(tmp_path: Path) -> None:
    found = await phase(tmp_path, REQUESTS, seed=16, around_s=AROUND_S)
    assert found.deviations == []
    assert found.rows >= REQUESTS * 0.95
    assert found.exact_calls > REQUESTS / 4
    assert found.estimated_calls > 0
    assert {kind for kind, _ in found.ends} >= {kind.name for kind in KINDS if kind.weight >= 2}
    ends = {how.split(":")[0] for _, how in found.ends}
    assert {"completed", "incomplete", "cancelled", "failed"} <= ends
    hows = " ".join(how for _, how in found.ends)
    for how in ("exact", "joined", "revised", "lost", "answered"):
        assert how in hows


def test_the_kinds_are_the_same_again() -> None:
    first, second = ([ask.text for _ in range(50) for ask in made.next()] for made in (Asks(3), Asks(3)))
    assert first == second


def recorded(question: int, tokens: int, *, has_finished: bool = True, ended_after_s: float = 0.0) -> RecordedCall:
    call = RecordedCall(RecordingStats())
    call.question, call.reports = question, has_finished
    call.charge(10)
    call.sent_at.extend([100.0 + number / 10 for number in range(tokens)])
    call.has_finished, call.ended_at = has_finished, call.sent_at[-1] + ended_after_s
    return call


def row(number: int, *calls: Call, status: str = "completed") -> Row:
    return Row(f"ask-{number}", status, "miss", sum(call["cost_nanodollars"] for call in calls), [*calls])


def call(output: int, *, estimated: bool = False, tier: str = "large", outcome: str = "answered") -> Call:
    tokens = {"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": output}
    return {**tokens, "tier": tier, "estimated": estimated, "outcome": outcome, "cost_nanodollars": 5}


def test_a_call_that_costs_a_nanodollar_too_much_is_found() -> None:
    prices = {"large": (2500, 1250, 10_000)}
    right = call(8) | {"cached_input_tokens": 4, "cost_nanodollars": 6 * 2500 + 4 * 1250 + 8 * 10_000}
    assert mispriced([row(0, right)], prices) == []
    wrong = right | {"cost_nanodollars": right["cost_nanodollars"] + 1}
    assert mispriced([row(0, right), row(1, wrong)], prices) == [
        "ask-1: a call costs 100001, its tokens 100000 nanodollars"
    ]


def audited(rows: list[Row], calls: list[RecordedCall], asks: int = 1) -> Audit:
    asked = [Ask(kind=COMPLETED, number=number, question=number, text="") for number in range(asks)]
    return audit(asked, frozenset(), rows, {"small": [], "large": calls})


def test_an_audit_finds_nothing_where_all_agrees() -> None:
    assert LARGE.name == "large"
    found = audited([row(0, call(8)), row(1, call(3, estimated=True))], [recorded(0, 8), recorded(1, 4)], asks=2)
    assert (found.deviations, found.exact_calls, found.estimated_calls) == ([], 1, 1)


@pytest.mark.parametrize(
    ("rows", "calls", "told"),
    [
        ([], [recorded(0, 8)], "has 0 rows, not 1"),
        ([row(0, call(8)), row(0, call(8))], [recorded(0, 8)], "has 2 rows, not 1"),
        ([row(0, call(8)), row(7)], [recorded(0, 8)], "nobody asked for: 'ask-7'"),
        ([row(0, call(7))], [recorded(0, 8)], r"\(10, 0, 7\) tokens in the ledger, \(10, 0, 8\)"),
        ([row(0, call(8))], [recorded(0, 8), recorded(0, 8)], "at the model, nothing in the ledger"),
        ([row(0, call(8))], [recorded(0, 8), recorded(5, 8)], "calls of question 5, and no row"),
        ([row(0, call(9, estimated=True))], [recorded(0, 8)], "9 output tokens in the ledger, 5 to 8"),
        ([row(0, call(4, estimated=True))], [recorded(0, 8)], "4 output tokens in the ledger, 5 to 8"),
        ([row(0, call(8), status="open")], [recorded(0, 8)], "is open"),
        ([replace(row(0, call(8)), cost=6)], [recorded(0, 8)], "not the sum"),
    ],
)
def test_an_audit_finds_what_does_not_agree(rows: list[Row], calls: list[RecordedCall], told: str) -> None:
    found = audited(rows, calls)
    assert len(found.deviations) >= 1
    with pytest.raises(ValueError, match=told):
        raise ValueError("; ".join(found.deviations))


def test_those_who_share_a_call_have_paid_for_all_of_it() -> None:
    shares = [row(0, call(3, estimated=True, outcome="cancelled"), call(5) | {"input_tokens": 0})]
    assert audited(shares, [recorded(0, 8)]).deviations == []
    lacking = [row(0, call(2, estimated=True, outcome="cancelled"), call(5) | {"input_tokens": 0})]
    assert len(audited(lacking, [recorded(0, 8)]).deviations) == 1


def test_a_refused_request_has_no_row() -> None:
    asked = [Ask(kind=REFUSED, number=0, question=0, text="")]
    assert audit(asked, frozenset(), [], {}).deviations == []
    assert len(audit(asked, frozenset(), [row(0)], {}).deviations) == 1


def test_audits_add_up() -> None:
    both = Audit()
    for _ in range(2):
        both.add(audited([row(0, call(7))], [recorded(0, 8)]))
    assert (both.rows, both.exact_calls, len(both.deviations)) == (2, 2, 4)
