"""Sessions: up fast, down slowly, and no switch that does not pay with its cold prompt cache."""

from dataclasses import replace

import numpy as np
import pytest

from millrace.funnel.catalog import Catalog
from millrace.funnel.routing import sessions
from millrace.funnel.routing.promises import Threshold
from millrace.funnel.routing.sessions import Sessions
from millrace.types import Message, Request, Strategy, Tier, ToolCall
from tests.measure_sessions import THRESHOLD, Kind, Sum, alone, bill, bill_of, session
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


def test_it_does_not_come_down_for_one_easy_turn() -> None:
    """Such as the one that says: commit it."""
    talk = Conversation(gap=10)
    talk.turn(Tier.LARGE)
    assert talk.turn(Tier.SMALL) == (Tier.LARGE, "the session stays at the large model for now")
    assert talk.turn(Tier.SMALL)[0] is Tier.SMALL


def test_it_stays_where_its_history_would_be_cold_when_it_returns() -> None:
    talk = Conversation(gap=150)
    talk.turn(Tier.LARGE)
    talk.turn(Tier.SMALL)
    assert talk.turn(Tier.SMALL) == (
        Tier.LARGE,
        "the session stays: its history is in the large model's prompt cache",
    )


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


def dear(talk: Conversation) -> None:
    """Have going up cost little until now: the history was short."""
    talk._tokens = 2000
    for _ in range(3):
        talk.turn(Tier.SMALL)
        talk.turn(Tier.LARGE, score=0.3, threshold=Threshold(0.2, ""))
        for _ in range(40):
            talk.turn(Tier.SMALL)
    talk._tokens = 60_000


def test_a_switch_that_is_dearer_than_usual_needs_a_higher_score() -> None:
    talk, threshold = Conversation(gap=400), Threshold(0.2, "")
    dear(talk)
    stays = "the session stays: to bring its history to the large model costs too much"
    assert talk.turn(Tier.LARGE, score=0.25, threshold=threshold) == (Tier.SMALL, stays)
    assert talk.turn(Tier.LARGE, score=0.2 * sessions.DEARER, threshold=threshold) == (Tier.LARGE, "")


def test_it_waits_for_some_turns_at_most() -> None:
    talk, threshold = Conversation(gap=400), Threshold(0.2, "")
    dear(talk)
    tiers = [talk.turn(Tier.LARGE, score=0.2, threshold=threshold)[0] for _ in range(sessions.WAITS + 1)]
    assert tiers[0] is Tier.SMALL
    assert Tier.LARGE in tiers


@pytest.mark.parametrize("threshold", [Threshold(0.2, "", binds=True), Threshold(-0.2, ""), None])
def test_no_session_is_kept_below_a_promise_of_quality(threshold: Threshold | None) -> None:
    talk = Conversation(gap=400)
    dear(talk)
    assert talk.turn(Tier.LARGE, score=0.25, threshold=threshold) == (Tier.LARGE, "")


def test_tenants_never_meet_and_their_sessions_are_bounded() -> None:
    held = Sessions(Catalog(PRICED[0], PRICED[1], {}, Strategy.AUTO), ManualClock())
    mine = request(session="one", input_tokens=30_000)
    held.hold(mine, Tier.LARGE)
    other = replace(mine, tenant="another")
    assert held.hold(other, Tier.SMALL)[0] is Tier.SMALL
    for number in range(sessions.SESSIONS):
        held.hold(replace(other, session=f"session {number}"), Tier.SMALL)
    assert held.hold(mine, Tier.SMALL)[0] is Tier.LARGE
    for number in range(sessions.TENANTS):
        held.hold(replace(other, tenant=f"tenant {number}"), Tier.SMALL)
    assert held.hold(mine, Tier.SMALL)[0] is Tier.SMALL


def test_sessions_that_flip_cost_less_together_at_no_less_quality() -> None:
    """As `measure_sessions` has it, with fewer sessions."""
    chance, each = np.random.default_rng(1), Sum()
    turns = [session(chance, Kind(150.0, stays=0.4, becomes=0.4)) for _ in range(12)]
    for one in turns:
        bill(one, alone(one, THRESHOLD), each)
    held = bill_of(turns, Threshold(THRESHOLD, ""))
    assert held.dollars < 0.85 * each.dollars
    assert held.right >= each.right * 0.995
    assert held.switches < each.switches / 2
