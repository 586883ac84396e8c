"""When a breaker opens, when it lets a probe through, and when it closes."""

import pytest

from millrace.funnel.breaker import FAILURES, MOST_WAIT_S, PROBE_EVERY_S, RATE_CALLS, RATE_S, Breaker, State


class Clocked:
    def __init__(self) -> None:
        self.now = 1000.0
        self.breaker = Breaker(lambda: self.now)

    def failed(self) -> bool:
        return self.breaker.failed(self.now, "answered HTTP 500")

    def succeeded(self) -> None:
        self.breaker.succeeded(self.now)


def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not() -> None:
    clocked = Clocked()
    for _ in range(FAILURES - 1):
        assert not clocked.failed()
    clocked.succeeded()
    for _ in range(FAILURES - 1):
        assert not clocked.failed()
    assert clocked.failed()
    assert clocked.breaker.state is State.OPEN
    assert not clocked.failed()  # it is open already


def test_a_share_of_failures_opens_it() -> None:
    """Every second call fails, so never many in a row."""
    clocked = Clocked()
    for number in range(RATE_CALLS // 2):
        clocked.now += 1
        clocked.succeeded()
        assert clocked.failed() is (number == RATE_CALLS // 2 - 1)


def test_old_failures_do_not_count() -> None:
    clocked = Clocked()
    for _ in range(10 * RATE_CALLS):
        clocked.now += 4 * RATE_S / RATE_CALLS
        clocked.succeeded()
        assert not clocked.failed()


def test_probes_come_one_at_a_time_the_first_at_once() -> None:
    clocked = Clocked()
    breaker = clocked.breaker
    assert not breaker.begins_probe()
    breaker.open("answered HTTP 500")
    assert breaker.begins_probe()
    assert not breaker.begins_probe()
    began_at, clocked.now = clocked.now, clocked.now + 0.4
    breaker.probed("answered HTTP 500", began_at)
    assert not breaker.begins_probe()
    clocked.now = began_at + PROBE_EVERY_S
    assert breaker.begins_probe()
    breaker.probed("", clocked.now)
    assert breaker.is_closed


@pytest.mark.parametrize(("asked_for_s", "waited_s"), [(7.0, 7.0), (3600.0, MOST_WAIT_S)])
def test_a_time_that_was_named_is_kept_to(asked_for_s: float, waited_s: float) -> None:
    clocked = Clocked()
    clocked.breaker.open("answered HTTP 429", asked_for_s)
    clocked.now += waited_s - 0.5
    assert not clocked.breaker.begins_probe()
    assert clocked.breaker.why == "answered HTTP 429, not to be asked for 1 s more"
    clocked.now += 0.5
    assert clocked.breaker.begins_probe()
    clocked.breaker.probed("answered HTTP 429", clocked.now, asked_for_s)
    clocked.now += waited_s - 0.1
    assert not clocked.breaker.begins_probe()
