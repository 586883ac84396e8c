"""The log of one response: order, replay, steering, commit and revise, and what has been seen when."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.funnel.bill import NOTHING
from millrace.funnel.facts import Committed, Ended, Fact, Metered, Revised, Routed, Started
from millrace.funnel.response_log import ResponseLog
from millrace.types import (
    Api,
    CacheOutcome,
    CallPiece,
    Delivery,
    NearAnswer,
    Refusal,
    Scored,
    Sealed,
    SemanticHit,
    Status,
    StoredAnswer,
    Strategy,
    Thought,
    Tier,
    ToolCall,
    Usage,
)
from tests.support.clock import ManualClock
from tests.support.manual_attempt import ManualAttempt
from tests.support.scripted_models import request
from tests.support.subscriber import RecordingSubscriber

ROUTED = Routed(strategy=Strategy.CASCADE, model="small-model", reason="short", tier=Tier.SMALL)
REVISED = Revised(from_model="small-model", to_model="large-model", reason="unsure")
ENDED = Ended(status=Status.COMPLETED, statement=NOTHING)
HELD_BACK = [Delivery.PREFIX, Delivery.COMMIT, Delivery.FINAL]  # their clients see no word before the commit


def log_of(delivery: Delivery = Delivery.SPECULATE, clock: ManualClock | None = None) -> ResponseLog:
    return ResponseLog(request(delivery=delivery), clock or ManualClock())


# Order


def test_a_listener_hears_every_fact_once_and_in_order() -> None:
    """Words come in one call a read, each fact in a call of its own."""
    response, subscriber = log_of(), RecordingSubscriber()
    response.subscribe(subscriber)
    response.start()
    response.route(ROUTED)
    response.write(["a", "b"])
    response.say(Thought("hm"))
    response.write(["c"])
    response.revise(REVISED)
    response.write(["d"])
    response.commit()
    response.meter(NOTHING)
    response.end(ENDED)
    words = [["a", "b"], Thought("hm"), ["c"], REVISED, ["d"]]
    assert subscriber.calls == [Started(), ROUTED, *words, Committed(), Metered(NOTHING), ENDED]
    assert subscriber.facts == response.facts
    assert response.id == response.request.id


def test_a_replay_tells_words_that_follow_each_other_in_one_call() -> None:
    """And does not subscribe: later words are not heard."""
    response, subscriber = log_of(), RecordingSubscriber()
    response.start()
    for word in "abc":
        response.write([word])
    response.say(Thought("hm"))
    response.write(["d"])
    response.replay(subscriber)
    response.write(["e"])
    assert subscriber.calls == [Started(), ["a", "b", "c"], Thought("hm"), ["d"]]
    assert not response.subscribers


WORDS = st.lists(st.text(max_size=3), min_size=1, max_size=3)
ACTIONS = st.one_of(
    st.tuples(st.just("write"), WORDS),
    st.tuples(st.just("say"), st.sampled_from([Thought("t"), Refusal("r"), CallPiece(index=0, arguments="{}")])),
    st.tuples(st.sampled_from(["route", "revise", "commit", "meter", "subscribe", "unsubscribe"]), st.none()),
)


def act(response: ResponseLog, action: str, argument: Any) -> None:
    match action:
        case "write":
            response.write(argument)
        case "say":
            response.say(argument)
        case "route":
            response.route(ROUTED)
        case "revise" if not response.committed:
            response.revise(REVISED)
        case "commit":
            response.commit()
        case "meter":
            response.meter(NOTHING)


@given(st.lists(ACTIONS, max_size=25))
def test_a_listener_that_joins_later_hears_what_the_first_one_hears(actions: list[tuple[str, Any]]) -> None:
    """Whenever it joins: replay and live are one sequence. One that leaves has heard its beginning."""
    response = log_of()
    first = RecordingSubscriber()
    response.subscribe(first)
    present: list[RecordingSubscriber] = []
    gone: list[RecordingSubscriber] = []
    response.start()
    for action, argument in actions:
        if action == "subscribe":
            present.append(RecordingSubscriber())
            response.subscribe(present[-1])
        elif action == "unsubscribe" and present:
            response.unsubscribe(present[0])
            gone.append(present.pop(0))
        else:
            act(response, action, argument)
    response.end(ENDED)
    assert first.facts == response.facts
    assert all(subscriber.facts == response.facts for subscriber in present)
    assert all(subscriber.facts == response.facts[: len(subscriber.facts)] for subscriber in gone)
    assert sum(isinstance(fact, Committed) for fact in response.facts) <= 1
    assert [fact for fact in response.facts if isinstance(fact, Ended)] == response.facts[-1:]


def joined(facts: list[Fact | str]) -> list[Fact | str]:
    """Return facts with the words that follow each other as one text."""
    whole: list[Fact | str] = []
    for fact in facts:
        if isinstance(fact, str) and whole and isinstance(whole[-1], str):
            whole[-1] += fact
        else:
            whole.append(fact)
    return whole


@given(st.lists(ACTIONS, max_size=25))
def test_packing_changes_nothing_but_how_the_words_are_cut(actions: list[tuple[str, Any]]) -> None:
    response = log_of()
    response.start()
    for action, argument in actions:
        act(response, action, argument)
    response.end(ENDED)
    before, standing = [*response.facts], response.message()
    response.pack()
    assert response.facts == joined(before)
    assert response.message() == standing


def test_text_that_was_shown_as_a_whole_is_kept_once_but_not_in_place_of_its_probabilities() -> None:
    scored = Scored("Yes", b"...")
    response, shown = log_of(), "Yes"
    response.write(["Ye", "s"])
    response.revise(REVISED)
    response.write([scored])
    response.end(ENDED)
    response.pack(shown)
    assert response.facts[0] is shown
    assert isinstance(kept := response.facts[2], Scored)
    assert kept.scores == scored.scores


def test_a_response_ends_once() -> None:
    response = log_of()
    response.end(ENDED)
    assert response.ended is ENDED
    with pytest.raises(AssertionError, match="ends once"):
        response.end(ENDED)


# Commit and revise


def test_a_commit_is_said_once() -> None:
    response = log_of()
    response.commit()
    response.commit()
    assert response.facts == [Committed()]


def test_committed_words_are_never_taken_back() -> None:
    """PROTOCOL.md, What always holds, 9."""
    response = log_of()
    response.write(["a"])
    response.commit()
    with pytest.raises(AssertionError, match="never taken back"):
        response.revise(REVISED)


@pytest.mark.parametrize("way", ["revise", "end"])
async def test_an_attempt_whose_words_are_over_is_heard_no_more(way: str) -> None:
    """After a revise the words of the next attempt come; after the end none do."""
    response, attempt, following = log_of(), ManualAttempt(), ManualAttempt()
    response.attach(attempt)
    attempt.read("a")
    attempt.read_aside(Thought("hm"))
    if way == "revise":
        response.revise(REVISED)
        response.attach(following)
        following.read("c")
    else:
        response.end(ENDED)
        assert response.attempt is None
    attempt.read("b")
    attempt.read_aside(Thought("late"))
    assert response.facts == ["a", Thought("hm"), *([REVISED, "c"] if way == "revise" else [ENDED])]


def test_the_standing_answer_is_what_was_said_since_the_last_revise() -> None:
    response = log_of()
    response.write(["no"])
    response.say(Thought("no"))
    response.revise(REVISED)
    response.say(Thought("hm"))
    response.write(["y", "es"])
    response.say(Refusal("but"))
    response.say(CallPiece(index=0, id="c1", name="f", arguments="{"))
    response.say(CallPiece(index=0, arguments="}"))
    answer = response.message()
    assert (answer.role, answer.text, answer.reasoning, answer.refusal) == ("assistant", "yes", "hm", "but")
    assert answer.calls == (ToolCall(id="c1", name="f", arguments="{}"),)


def test_an_answer_without_a_word_has_no_parts() -> None:
    assert log_of().message().parts == ()


# When a word was first seen


@pytest.mark.parametrize("delivery", Delivery)
def test_the_first_word_is_seen_when_its_client_may_see_it(delivery: Delivery) -> None:
    """Speculative clients see it when it comes, all others with the commit; with `final` none before the end."""
    clock = ManualClock(1.0)
    response = log_of(delivery, clock)
    assert not response.seen
    response.write(["a"])
    clock.now = 2.0
    response.write(["b"])
    assert response.first_text_at == 1.0
    assert response.seen is (delivery is Delivery.SPECULATE)
    clock.now = 3.0
    response.commit()
    assert response.first_text_at == (1.0 if delivery is Delivery.SPECULATE else 3.0)
    assert response.seen is (delivery is not Delivery.FINAL)
    clock.now = 4.0
    response.write(["c"])
    response.commit()
    assert response.first_text_at == (1.0 if delivery is Delivery.SPECULATE else 3.0)


@pytest.mark.parametrize("delivery", Delivery)
def test_words_that_come_after_the_commit_are_seen_at_once(delivery: Delivery) -> None:
    clock = ManualClock(1.0)
    response = log_of(delivery, clock)
    response.commit()
    assert (response.first_text_at, response.seen) == (None, False)
    clock.now = 2.0
    response.write(["a"])
    assert response.first_text_at == 2.0


@pytest.mark.parametrize("delivery", HELD_BACK)
def test_words_that_nobody_saw_are_no_first_words(delivery: Delivery) -> None:
    """After a revise the clock starts again with the next attempt's."""
    clock = ManualClock(1.0)
    response = log_of(delivery, clock)
    response.write(["a"])
    response.revise(REVISED)
    assert response.first_text_at is None
    clock.now = 2.0
    response.write(["b"])
    assert response.first_text_at == 2.0


def test_a_speculative_client_has_seen_what_is_revised() -> None:
    response = log_of(Delivery.SPECULATE, ManualClock(1.0))
    response.write(["a"])
    response.revise(REVISED)
    assert (response.first_text_at, response.seen) == (1.0, True)


def test_a_refusal_is_words_and_a_thought_is_not() -> None:
    clock = ManualClock(1.0)
    response = log_of(clock=clock)
    response.say(Thought("hm"))
    assert response.first_text_at is None
    response.say(Refusal("no"))
    clock.now = 2.0
    response.say(Refusal("never"))
    assert response.first_text_at == 1.0


# Steering


async def test_the_models_wait_only_while_all_listeners_are_behind() -> None:
    """A slow one does not hold a fast one back; one where nobody listens has no vote."""
    response, attempt = log_of(), ManualAttempt()
    response.attach(attempt)
    slow, fast = RecordingSubscriber(congested=True), RecordingSubscriber()
    unheard = RecordingSubscriber(congested=None)
    for subscriber in (unheard, fast, slow):
        response.subscribe(subscriber)
    assert (response.paused, attempt.steps) == (False, [])
    fast.congested = True
    response.apply_backpressure()
    response.apply_backpressure()
    assert (response.paused, attempt.steps) == (True, ["pause"])
    fast.congested = False
    response.apply_backpressure()
    assert (response.paused, attempt.steps) == (False, ["pause", "resume"])


async def test_coming_and_going_steers() -> None:
    """The one that kept up leaves, and the rest are behind; the last leaves, and the model is read on."""
    response, attempt = log_of(), ManualAttempt()
    response.attach(attempt)
    slow, fast = RecordingSubscriber(congested=True), RecordingSubscriber()
    response.subscribe(slow)
    assert attempt.steps == ["pause"]
    response.subscribe(fast)
    assert attempt.steps == ["pause", "resume"]
    response.unsubscribe(fast)
    assert attempt.steps == ["pause", "resume", "pause"]
    response.write(["a"])
    response.unsubscribe(slow)
    assert attempt.steps == ["pause", "resume", "pause", "resume"]
    response.write(["b"])
    assert (fast.facts, slow.facts) == ([], ["a"])


async def test_an_attempt_that_begins_while_all_are_behind_waits_too() -> None:
    response, attempt = log_of(), ManualAttempt()
    slow = RecordingSubscriber(congested=True)
    response.subscribe(slow)  # nothing is attached: it only remembers
    response.attach(attempt)
    assert attempt.steps == ["pause"]
    slow.congested = False
    response.apply_backpressure()
    assert attempt.steps == ["pause", "resume"]


async def test_a_response_that_follows_another_steers_it() -> None:
    """Until it leaves: then it has a log of its own, and its listeners only read that."""
    source, response, attempt = log_of(), log_of(), ManualAttempt()
    source.attach(attempt)
    response.follow(source, is_joined=False)
    listener = RecordingSubscriber(congested=True)
    response.subscribe(listener)
    assert attempt.steps == ["pause"]
    listener.congested = False
    response.apply_backpressure()
    assert attempt.steps == ["pause", "resume"]
    response.leave()
    listener.congested = True
    response.apply_backpressure()
    assert attempt.steps == ["pause", "resume"]


# What looks at each read


async def test_what_looks_at_each_read_looks_until_it_has_seen_enough() -> None:
    response, looks = log_of(), list[int]()

    def look() -> bool:
        looks.append(len(response.facts))
        return len(looks) == 2

    response.write(["a"])
    response.after_each_read(look)
    for deltas in (["b", "c"], ["d"], ["e"]):
        response.write(deltas)
    assert looks == [3, 4]


async def test_nothing_looks_at_the_reads_of_another_attempt() -> None:
    """It is about the attempt that was attached when it began."""
    response, looks = log_of(), list[None]()
    response.attach(ManualAttempt())
    response.after_each_read(lambda: looks.append(None) is None)  # type: ignore[func-returns-value]
    response.detach()
    response.attach(ManualAttempt())
    response.write(["a"])
    assert looks == []


# Facts


def test_a_stored_answer_is_routed_with_its_age() -> None:
    """Never a negative one, should the wall clock have been set back; the similarity where the wording differs."""
    stored = StoredAnswer(text="", model_id="large-model", usage=Usage(), check=None, stored_at=1000.0)
    exact = Routed.cached(request(), stored, CacheOutcome.EXACT, "asked before", 1005.0, None)
    assert (exact.model, exact.age_s, exact.similarity, exact.entry_id) == ("large-model", 5.0, None, None)
    assert Routed.cached(request(), stored, CacheOutcome.EXACT, "asked before", 990.0, None).age_s == 0.0
    weighed = NearAnswer(
        entry_id="sem_1", asked_id="sem_2", question="?", answer=b"", log_odds=2.0, features={}, similarity=0.9
    )
    hit = SemanticHit(answer=stored, age_s=1.0, near=weighed)
    near = Routed.cached(request(), stored, CacheOutcome.SEMANTIC, "near", 1005.0, hit)
    assert (near.cache, near.similarity, near.entry_id) == (CacheOutcome.SEMANTIC, 0.9, "sem_1")


def test_a_request_that_joins_is_routed_as_joined() -> None:
    assert ROUTED.joined() == replace(ROUTED, cache=CacheOutcome.JOINED)
    response = log_of()
    response.route(ROUTED.joined())
    assert response.cache is CacheOutcome.JOINED


@pytest.mark.parametrize(
    ("ended", "accepted"),
    [
        (ENDED, True),
        (replace(ENDED, status=Status.INCOMPLETE, reason="max_output_tokens"), True),
        (replace(ENDED, status=Status.INCOMPLETE, error=MillraceError("deadline_exceeded", "")), False),
        (replace(ENDED, status=Status.CANCELLED), False),
        (replace(ENDED, status=Status.FAILED, error=MillraceError("upstream_error", "")), False),
    ],
)
def test_an_answer_is_accepted_unless_something_ended_it(ended: Ended, *, accepted: bool) -> None:
    """A cap of its own is no failure."""
    assert ended.accepted is accepted
    assert ended.statement.cost == Decimal(0)


def test_sealed_blocks_keep_their_places_between_text_and_calls() -> None:
    response = log_of()
    response.start()
    for number in range(4):
        response.say(Sealed(api=Api.MESSAGES, fields={"n": number}))
        if number == 1:
            response.write(["a", "b"])
        if number == 2:
            response.say(CallPiece(index=0, id="call_1", name="depth", arguments="{}"))
    response.write(["c"])

    answer = response.message()

    assert answer.parts == ("ab", "c")
    places = [(one.fields["n"], one.parts_before, one.calls_before) for one in answer.sealed]
    assert places == [(0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 1, 1)]
