"""What a running response has cost, as it is told to those who listen."""

import math

from millrace.funnel.bill import NOTHING
from millrace.funnel.facts import Ended, Metered
from millrace.funnel.response_log import ResponseLog
from millrace.types import Status
from millrace.wire import limits
from tests.support.clock import ManualClock
from tests.support.scripted_models import request
from tests.support.subscriber import RecordingSubscriber

ENDED = Ended(status=Status.COMPLETED, statement=NOTHING)


def log_of(clock: ManualClock | None = None) -> ResponseLog:
    return ResponseLog(request(), clock or ManualClock())


def test_usage_is_due_once_in_a_while_from_the_start_on() -> None:
    """At most once a second (PROTOCOL.md, Once negotiated); it may be sent earlier if somebody asks for it."""
    clock = ManualClock(10.0)
    response = log_of(clock=clock)
    assert response.meter_due_at == math.inf, "it has not started"
    response.start()
    assert response.meter_due_at == 10.0 + limits.USAGE_EVERY_S
    assert response.may_meter(10.0)
    clock.now = 11.5
    response.meter(NOTHING)
    assert response.meter_due_at == 11.5 + limits.USAGE_EVERY_S
    assert not response.may_meter(11.5 + limits.USAGE_EVERY_S * 0.9)
    assert response.may_meter(11.5 + limits.USAGE_EVERY_S)


def test_usage_comes_with_the_next_text_so_that_both_are_one_write() -> None:
    """Without any it comes at the next look."""
    response, subscriber = log_of(), RecordingSubscriber()
    response.subscribe(subscriber)
    response.meter_soon(lambda: NOTHING)
    assert subscriber.calls == [Metered(NOTHING)], "nothing says that text will follow soon"
    response.write(["a"])
    response.meter_soon(lambda: NOTHING)
    assert subscriber.calls[1:] == [["a"]]
    response.write(["b"])
    response.write(["c"])
    assert subscriber.calls[2:] == [["b"], Metered(NOTHING), ["c"]]
    response.meter_soon(lambda: NOTHING)
    response.meter_soon(lambda: NOTHING)
    assert subscriber.calls[5:] == [Metered(NOTHING)]
    response.meter_soon(lambda: NOTHING)
    response.end(ENDED)
    assert subscriber.calls[6:] == [ENDED]


def test_text_goes_on_if_its_cost_cannot_be_told() -> None:
    response, subscriber = log_of(), RecordingSubscriber()
    response.subscribe(subscriber)
    response.write(["a"])
    response.meter_soon(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    response.write(["b"])
    response.write(["c"])
    assert subscriber.calls == [["a"], ["b"], ["c"]]


def test_usage_is_told_to_those_who_listen_now_and_is_not_kept() -> None:
    """Whoever comes later gets the next one."""
    response, early, late = log_of(), RecordingSubscriber(), RecordingSubscriber()
    response.subscribe(early)
    response.meter(NOTHING)
    response.subscribe(late)
    assert (early.calls, late.calls, response.facts) == ([Metered(NOTHING)], [], [])
