"""Which deployment gets a call: by load and weight, by session, and how retries and silence are counted."""

from collections import Counter

import pytest

from millrace.errors import UpstreamError
from millrace.funnel.pools import ENOUGH, MOST_KEPT, RETRIES, SILENT_S, Place, Pool
from millrace.types import Deployment
from tests.support.scripted_models import SMALL, STOP, ScriptedUpstream


class Idle:
    """A call that waits, and notes that it is to go elsewhere."""

    def __init__(self) -> None:
        self.moved: UpstreamError | None = None
        self.is_paused = False

    def move(self, error: UpstreamError) -> None:
        self.moved = error


class Clocked:
    def __init__(self, *weights: float) -> None:
        self.now = 1000.0
        places = [
            (Deployment(label=str(number), weight=weight), ScriptedUpstream(["Ready.", STOP]))
            for number, weight in enumerate(weights, 1)
        ]
        self.pool = Pool(SMALL, places, lambda: self.now)

    def place(self, number: int) -> Place:
        return self.pool.places[number - 1]

    def run(self, place: Place) -> None:
        self.pool.take(place)


def label(place: Place | None) -> str:
    assert place is not None
    return place.deployment.label


@pytest.mark.parametrize("ends", [True, False])
def test_calls_are_shared_by_weight(ends: bool) -> None:
    """Whether they pile up, or each ends before the next one comes."""
    clocked = Clocked(1, 2, 3)
    counts: Counter[str] = Counter()
    for _ in range(600):
        place = clocked.pool.choose(None)
        assert place is not None
        clocked.run(place)
        counts[label(place)] += 1
        place.running -= ends
    assert {name: counts[name] for name in "123"} == {
        "1": pytest.approx(100, abs=3),
        "2": pytest.approx(200, abs=3),
        "3": pytest.approx(300, abs=3),
    }


def test_one_that_comes_back_is_not_asked_for_all_that_it_has_missed() -> None:
    clocked = Clocked(1, 1)
    clocked.place(1).breaker.open("answered HTTP 500")
    counts: Counter[str] = Counter()
    for number in range(200):
        if number == 100:
            clocked.place(1).breaker.probed("", clocked.now)
        place = clocked.pool.choose(None)
        assert place is not None
        clocked.run(place)
        place.running -= 1
        counts[label(place)] += 1
    assert counts["1"] == pytest.approx(50, abs=2)


def test_a_session_stays_until_its_deployment_has_too_much_to_do() -> None:
    clocked = Clocked(1, 1)
    first = clocked.pool.choose(("acme", "s1"))
    assert first is not None
    for _ in range(4):
        assert clocked.pool.choose(("acme", "s1")) is first
        clocked.run(first)
    assert label(clocked.pool.choose(None)) != label(first)
    for _ in range(20):
        clocked.run(first)
    other = clocked.pool.choose(("acme", "s1"))
    assert other is not first
    assert clocked.pool.choose(("acme", "s1"), is_bound=True) is other
    for _ in range(20):
        first.running -= 1
    assert clocked.pool.choose(("acme", "s1")) is other  # where its prompt is cached now


def test_what_is_bound_stays_however_much_its_deployment_has_to_do() -> None:
    clocked = Clocked(1, 1)
    first = clocked.pool.choose("s1")
    assert first is not None
    first.running = 100
    assert clocked.pool.choose("s1", is_bound=True) is first
    first.breaker.open("answered HTTP 500")
    assert clocked.pool.choose("s1", is_bound=True) is not first


def test_the_sessions_that_are_remembered_are_bounded() -> None:
    clocked = Clocked(1, 1)
    for number in range(MOST_KEPT + 100):
        clocked.pool.choose(number)
    assert len(clocked.pool._kept) == MOST_KEPT


def test_none_is_asked_twice_or_while_it_is_left_alone() -> None:
    clocked = Clocked(1, 1, 1)
    clocked.place(1).breaker.open("answered HTTP 500")
    assert label(clocked.pool.choose(None, but=[clocked.place(2)])) == "3"
    assert clocked.pool.choose(None, but=[clocked.place(2), clocked.place(3)]) is None


def test_a_second_call_goes_to_another_deployment_if_there_is_one() -> None:
    clocked = Clocked(1, 1)
    clocked.place(2).running = 50
    assert label(clocked.pool.choose(None, other_than="1")) == "2"
    clocked.place(2).breaker.open("answered HTTP 500")
    assert label(clocked.pool.choose(None, other_than="1")) == "1"


def test_retries_are_a_share_of_the_requests() -> None:
    """A store that is full allows a burst; then one request in five."""
    pool = Clocked(1, 1).pool
    for _ in range(int(RETRIES)):
        assert pool.has_retry
        pool.spend()
    assert not pool.has_retry
    retries = 0
    for _ in range(1000):
        pool.earn()
        if pool.has_retry:
            pool.spend()
            retries += 1
    assert retries == pytest.approx(200, abs=2)


def spoken(clocked: Clocked, seconds: float, at: int = 2) -> None:
    """Let enough calls have their first word after so many seconds."""
    for _ in range(ENOUGH):
        clocked.pool.spoke(clocked.place(at), clocked.now - seconds)


def test_a_deployment_is_silent_whose_calls_wait_much_longer_than_others() -> None:
    clocked = Clocked(1, 1)
    spoken(clocked, 0.5)
    place = clocked.place(1)
    place.waiting = {Idle(): clocked.now for _ in range(3)}
    clocked.now += SILENT_S
    assert clocked.pool.silent_s(place) == 0
    clocked.now += 0.5
    assert clocked.pool.silent_s(place) == pytest.approx(SILENT_S + 0.5)
    clocked.pool.spoke(place, clocked.now - 1)  # one that began earlier
    assert clocked.pool.silent_s(place) == 0
    clocked.now += SILENT_S + 0.1
    assert clocked.pool.silent_s(place) == pytest.approx(SILENT_S + 0.1)


def test_calls_from_before_a_probe_was_answered_do_not_make_it_silent() -> None:
    """They may be lost; those that came since are answered."""
    clocked = Clocked(1, 1)
    spoken(clocked, 0.5)
    place = clocked.place(1)
    place.waiting = {Idle(): clocked.now for _ in range(5)}
    clocked.now += 10
    place.breaker.probed("", clocked.now)
    clocked.now += 50
    assert clocked.pool.silent_s(place) == 0


@pytest.mark.parametrize("why", ["few wait", "slow model", "too little is known", "one is not read"])
def test_and_not_if_that_may_be_as_it_should(why: str) -> None:
    clocked = Clocked(1, 1)
    if why != "too little is known":
        spoken(clocked, 30.0 if why == "slow model" else 0.5)
    place = clocked.place(1)
    place.waiting = {Idle(): clocked.now for _ in range(2 if why == "few wait" else 3)}
    next(iter(place.waiting)).is_paused = why == "one is not read"
    clocked.now += 50
    assert clocked.pool.silent_s(place) == 0


def test_a_call_beside_another_one_leaves_the_session_where_it_is() -> None:
    """Its prompt is cached there, whichever of the two wins."""
    clocked = Clocked(1, 1)
    first = label(clocked.pool.choose("session"))
    assert label(clocked.pool.choose("session", other_than=first)) != first
    assert label(clocked.pool.choose("session")) == first
