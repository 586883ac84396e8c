"""Sessions: up fast, down slowly, and no switch that does not pay with its cold prompt cache."""

import random

import numpy as np
import pytest
from msgspec.structs import replace

from millrace.funnel.catalog import Catalog
from millrace.funnel.routing import sessions
from millrace.funnel.routing.promises import Threshold
from millrace.funnel.routing.runs import Run, Runs
from millrace.funnel.routing.sessions import Sessions
from millrace.funnel.routing.warmth import Warmth, of_scores, of_wants
from millrace.types import Message, Request, Strategy, Tier, ToolCall
from tests.measure_sessions import Kind, compare, session
from tests.support.clock import ManualClock
from tests.support.scripted_models import LARGE, SMALL, request

PRICED = [replace(model, price=replace(model.price, cached_input=model.price.input / 10)) for model in (SMALL, LARGE)]
ASKED = Message(role="user", parts=("Mend it.",))
CALL = ToolCall(id="call_1", name="run", arguments="{}")
CALLED = Message(role="assistant", calls=(CALL,))
DONE = Message(role="tool", parts=("all is well",), call_id="call_1")


class Conversation:
    """A session whose turns come at a pace."""

    def __init__(self, *, gap: float = 150.0, tokens: int = 30_000, catalog: Catalog | None = None) -> None:
        self._clock, self._gap, self._tokens = ManualClock(), gap, tokens
        self.sessions = Sessions(catalog or Catalog(PRICED[0], PRICED[1], {}, Strategy.AUTO), self._clock)

    def turn(
        self, wanted: Tier, *messages: Message, score: float | None = None, threshold: Threshold | None = None
    ) -> tuple[Tier, str]:
        """Ask once more, with some more history."""
        self._clock.now += self._gap
        self._tokens += 500
        return self.sessions.hold(self.request(*messages), wanted, score, threshold)

    def request(self, *messages: Message) -> Request:
        return request(*(messages or (ASKED,)), session="one", input_tokens=self._tokens)


def test_a_session_goes_up_as_soon_as_that_is_wanted() -> None:
    talk = Conversation()
    assert talk.turn(Tier.SMALL) == (Tier.SMALL, "")
    assert talk.turn(Tier.LARGE) == (Tier.LARGE, "")


def test_after_trouble_it_does_not_come_down_for_one_easy_turn() -> None:
    """Such as the one that says: commit it."""
    talk = Conversation(gap=10)
    talk.turn(Tier.SMALL, ASKED, CALLED, replace(DONE, is_error=True))
    assert talk.turn(Tier.SMALL) == (Tier.LARGE, "the session stays at the large model for now")
    assert talk.turn(Tier.SMALL)[0] is Tier.SMALL


def test_it_stays_where_its_history_would_be_cold_when_it_returns() -> None:
    talk = Conversation(gap=150)
    for _ in range(4):
        talk.turn(Tier.SMALL)
        talk.turn(Tier.LARGE)
    assert talk.turn(Tier.SMALL) == (Tier.LARGE, sessions.STAYS)


def test_nothing_is_worth_staying_for_while_the_caches_of_both_are_warm() -> None:
    talk = Conversation(gap=10)
    for _ in range(4):
        talk.turn(Tier.SMALL)
        talk.turn(Tier.LARGE)
    assert talk.turn(Tier.SMALL) == (Tier.SMALL, "")


def test_it_comes_down_in_the_end() -> None:
    talk = Conversation(gap=150)
    talk.turn(Tier.LARGE)
    assert Tier.SMALL in {talk.turn(Tier.SMALL)[0] for _ in range(30)}


def test_without_a_price_for_cached_tokens_nothing_is_worth_staying_for() -> None:
    talk = Conversation(catalog=Catalog(SMALL, LARGE, {}, Strategy.AUTO))
    talk.turn(Tier.LARGE)
    talk.turn(Tier.SMALL)
    assert talk.turn(Tier.SMALL)[0] is Tier.SMALL


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ((ASKED, CALLED, replace(DONE, is_error=True)), "up: the last tool failed"),
        ((ASKED, CALLED, DONE, CALLED, DONE), "up: the last tool call repeats an earlier one"),
    ],
)
def test_trouble_with_tools_goes_up_on_purpose(messages: tuple[Message, ...], why: str) -> None:
    talk = Conversation()
    talk.turn(Tier.SMALL)
    assert talk.turn(Tier.SMALL, *messages) == (Tier.LARGE, why)


def test_tools_that_do_well_are_no_reason_to_go_up() -> None:
    assert Conversation().turn(Tier.SMALL, ASKED, CALLED, DONE) == (Tier.SMALL, "")
    again = Message(role="assistant", calls=(replace(CALL, id="call_2"),))
    changed = Message(role="tool", parts=("2 passed",), call_id="call_2")  # it looks at what it has changed
    assert Conversation().turn(Tier.SMALL, ASKED, CALLED, DONE, again, changed) == (Tier.SMALL, "")


def test_a_history_that_is_nearly_too_long_goes_up_while_it_can_be_moved_at_less() -> None:
    assert Conversation(tokens=60_000).turn(Tier.SMALL)[0] is Tier.SMALL
    assert Conversation(tokens=100_000).turn(Tier.SMALL) == (
        Tier.LARGE,
        "up: its history is nearly too long for small-model",
    )


def test_small_answers_that_fail_their_checks_in_a_row_go_up() -> None:
    talk = Conversation()
    talk.turn(Tier.SMALL)
    talk.sessions.escalated(talk.request())
    assert talk.turn(Tier.SMALL)[0] is Tier.SMALL
    talk.sessions.passed(talk.request())
    talk.sessions.escalated(talk.request())
    assert talk.turn(Tier.SMALL)[0] is Tier.SMALL
    talk.sessions.escalated(talk.request())
    assert talk.turn(Tier.SMALL) == (Tier.LARGE, "up: the last 2 small answers failed their checks")


def many_turns(talk: Conversation, threshold: Threshold | None) -> None:
    """Have a turn of the large model cost as much as a history of 20,000 tokens that is not in its cache."""
    for _ in range(200):
        talk._tokens = 20_000
        talk.turn(Tier.SMALL, score=0.1, threshold=threshold)


def test_a_turn_that_costs_more_than_usual_needs_a_higher_score_and_one_that_costs_less_a_lower_one() -> None:
    talk, threshold = Conversation(gap=10, tokens=20_000), Threshold(0.2, "")
    many_turns(talk, threshold)
    talk._tokens = 60_000
    assert talk.turn(Tier.LARGE, score=0.22, threshold=threshold) == (Tier.SMALL, sessions.DEAR)
    assert talk.turn(Tier.LARGE, score=0.2 * sessions.DEARER, threshold=threshold) == (Tier.LARGE, "")
    talk._tokens = 10_000
    assert talk.turn(Tier.SMALL, score=0.15, threshold=threshold) == (Tier.LARGE, sessions.CHEAP)


@pytest.mark.parametrize("threshold", [Threshold(0.2, "", binds=True), Threshold(-0.2, ""), None])
def test_no_session_is_kept_below_a_promise_of_quality(threshold: Threshold | None) -> None:
    talk = Conversation(gap=10, tokens=20_000)
    many_turns(talk, threshold)
    talk._tokens = 60_000
    assert talk.turn(Tier.LARGE, score=0.22, threshold=threshold) == (Tier.LARGE, "")


@pytest.mark.parametrize(("repeats", "low", "high"), [(0.5, 0.2, 0.4), (0.0, 0.0, 0.08)])
def test_turns_before_count_as_far_as_scores_follow_each_other(repeats: float, low: float, high: float) -> None:
    chance, found, run, score = random.Random(1), Runs(), Run(), 0.0
    for _ in range(4000):
        score = repeats * score + chance.gauss(0, 1)
        found.expected(run, score + chance.gauss(0, 0.7))
    assert low <= found.follows < high
    assert found.expected(Run(carried=1.0), 0.5) == pytest.approx(0.5 + found.follows, abs=0.01)


def test_tenants_never_meet_and_their_sessions_are_bounded() -> None:
    held = Sessions(Catalog(PRICED[0], PRICED[1], {}, Strategy.AUTO), ManualClock())
    mine = request(session="one", input_tokens=30_000)
    held.hold(mine, Tier.SMALL)
    for _ in range(sessions.ESCALATED):
        held.escalated(mine)
    other = replace(mine, tenant="another")
    assert held.hold(other, Tier.SMALL)[0] is Tier.SMALL
    for number in range(sessions.SESSIONS):
        held.hold(replace(other, session=f"session {number}"), Tier.SMALL)
    assert held.hold(mine, Tier.SMALL)[0] is Tier.LARGE
    for number in range(sessions.TENANTS):
        held.hold(replace(other, tenant=f"tenant {number}"), Tier.SMALL)
    assert held.hold(mine, Tier.SMALL)[0] is Tier.SMALL


@pytest.mark.parametrize(
    ("kind", "part"),
    [(Kind(150.0, stays=0.4, becomes=0.4), 0.7), (Kind(75.0, stays=0.4, becomes=0.4), 0.8), (Kind(10.0), 1.0)],
    ids=["a person, whose turns flip", "a quick one", "an agent"],
)
def test_sessions_cost_less_together_at_no_less_quality(kind: Kind, part: float) -> None:
    """As `measure_sessions` has it, with fewer sessions."""
    chance = np.random.default_rng(1)
    found = compare([session(chance, kind) for _ in range(12)])
    alone, together = found["each turn alone"], found["sessions, same quality"]
    assert together.right == pytest.approx(alone.right)
    assert together.dollars < part * alone.dollars
    assert found["sessions, promise of quality"].dollars < 1.02 * alone.dollars
    assert found["sessions, promise of quality"].right >= alone.right


def test_no_session_goes_up_where_there_is_no_money_even_for_escalations() -> None:
    talk, broke = Conversation(), Threshold(float("inf"), "", escalates=False)
    talk.turn(Tier.SMALL, score=0.1, threshold=broke)
    failed = (ASKED, CALLED, replace(DONE, is_error=True))
    assert talk.turn(Tier.SMALL, *failed, score=0.9, threshold=broke) == (Tier.SMALL, "")


@pytest.mark.parametrize(("gap", "worth"), [(10.0, 0.0), (75.0, 0.1), (150.0, 0.1), (1000.0, 0.0)])
def test_a_warm_cache_is_worth_most_where_it_will_be_wanted_before_it_expires(gap: float, worth: float) -> None:
    """To use it now, in parts of what a cold turn costs: nothing if it stays warm anyway, or is cold by then anyway."""
    warmth = Warmth()
    for _ in range(100):
        warmth.step(gap, 0.01, 0.08, of_wants(0.3), 0.95)
    spared = (warmth.after(0.0, gap) - warmth.after(2 * gap, gap)) / 0.08
    assert (spared > worth) if worth else abs(spared) < 0.02


def test_what_turns_gain_is_what_scores_say_beyond_what_they_cost() -> None:
    chance = np.random.default_rng(1)
    scores = chance.normal(0.2, 0.3, 100_000)
    assert of_scores(0.2, 0.3, 2.0)(0.5) == pytest.approx(np.maximum(2 * scores - 0.5, 0).mean(), rel=0.03)
    assert of_scores(0.2, 0.0, 2.0)(0.1) == pytest.approx(0.3)
