"""The page of `millrace explain`, from made rows: what is said of each stage."""

from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from millrace.cli.explain import story
from millrace.types import CacheOutcome, Near, Outcome, Scores, Source, Status, Story, Tier
from millrace.wire import ledger as wire
from tests.support.bills import SMALL, USAGE, Store, StubAttempt, call, settle

SCORES = Scores(tier=Tier.SMALL, score=0.1, small=0.8, large=0.9, threshold=0.25, labels=400, reason="keeps a share")


def page(store: Store, *, outcome: Outcome = Outcome.ANSWERED, **fields: Any) -> str:
    bill = store.bill()
    call(bill, SMALL, StubAttempt(usage=USAGE), outcome)
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        for part in story(
            wire.entry(settle(bill, statement=bill.statement(answered=outcome is Outcome.ANSWERED), **fields))
        ):
            console.print(part)
    return captured.get()


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (SCORES, "small first: score +0.100 (0.900 - 0.800), large from +0.250, from 400 labels; keeps a share"),
        (replace(SCORES, threshold=None, small=None), "small first: score +0.100, no score is enough"),
        (replace(SCORES, threshold=None, tier=Tier.LARGE), "large first: score +0.100 (0.900 - 0.800), whatever it is"),
    ],
)
async def test_what_the_router_said(store: Store, scores: Scores, said: str) -> None:
    assert said in page(store, story=Story(scores=scores))


async def test_a_near_question_says_why_its_answer_was_not_served(store: Store) -> None:
    """By how sure it had to be; what was sure enough and went otherwise is told by the stage."""
    unsure, sure = (Near(entry_id=f"ans_{log_odds}", similarity=0.9, log_odds=log_odds) for log_odds in (1.0, 6.0))
    off = replace(sure, is_off=True)
    told = page(store, story=Story(near=(unsure, sure, off), needed=4.0, missed="the nearest one was deleted"))
    lines = [line for line in told.splitlines() if "ans_" in line]
    assert ["not sure enough: 98.20% were needed" in line for line in lines] == [True, False, False]
    assert "its scope was off" in lines[2]
    assert "the nearest one was deleted" in told


async def test_a_stored_answer_says_how_old_it_was(store: Store) -> None:
    told = page(store, story=Story(age_s=61.7), cache=CacheOutcome.EXACT, source=Source.CACHE)
    assert "answered it, stored 62 s before" in told


async def test_without_an_answer_nothing_is_compared(store: Store) -> None:
    assert "the large model would have cost" in page(store)
    cut = page(store, outcome=Outcome.CANCELLED, status=Status.INCOMPLETE, code="deadline")
    assert "would have cost" not in cut
