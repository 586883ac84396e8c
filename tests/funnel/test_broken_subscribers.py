"""A subscriber of a response that raises: it ends alone, and the others hear everything."""

import pytest

from millrace.funnel.bill import NOTHING
from millrace.funnel.facts import Fact
from millrace.types import Thought
from tests.funnel.test_response_log import ENDED, REVISED, ROUTED, log_of
from tests.support.logs import captured_logs
from tests.support.manual_attempt import ManualAttempt
from tests.support.subscriber import RecordingSubscriber


class PanicError(BaseException):
    """What a library written in Rust raises when it panics; no `Exception`."""


class BrokenSubscriber(RecordingSubscriber):
    """Raises an error at call number `at`, and at the end too if it says so."""

    def __init__(self, error: BaseException, at: int = 0, *, fails_twice: bool = False) -> None:
        super().__init__(congested=True)
        self.error = error
        self.at = at
        self.fails_twice = fails_twice

    def text(self, deltas: list[str]) -> None:
        self._count()
        super().text(deltas)

    def fact(self, fact: Fact) -> None:
        self._count()
        super().fact(fact)

    def fail(self) -> None:
        super().fail()
        if self.fails_twice:
            raise self.error

    def _count(self) -> None:
        if len(self.calls) == self.at:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("said in a prompt"), PanicError("said in a prompt")])
@pytest.mark.parametrize("fails_twice", [False, True])
@pytest.mark.parametrize("at", range(8))
def test_a_subscriber_that_raises_ends_alone(at: int, error: BaseException, *, fails_twice: bool) -> None:
    """Whatever it raises at: those before and after it hear everything, and it hears nothing more."""
    response = log_of()
    before, after = RecordingSubscriber(), RecordingSubscriber()
    broken = BrokenSubscriber(error, at, fails_twice=fails_twice)
    with captured_logs() as logs:
        for subscriber in (before, broken, after):
            response.subscribe(subscriber)
        response.start()
        response.route(ROUTED)
        response.write(["a", "b"])
        response.say(Thought("hm"))
        response.revise(REVISED)
        response.commit()
        response.meter(NOTHING)
        assert response.subscribers == ((before, broken, after) if at == 7 else (before, after))
        response.end(ENDED)
    assert before.calls == after.calls
    assert len(before.calls) == 8
    assert broken.calls == before.calls[:at]
    assert (before.has_failed, broken.has_failed, after.has_failed) == (False, True, False)
    assert not response.subscribers
    assert len(logs.warnings) == 1 + fails_twice
    assert "prompt" not in logs.text


def test_a_subscriber_that_raises_at_the_replay_is_dropped() -> None:
    response, broken = log_of(), BrokenSubscriber(RuntimeError())
    response.start()
    with captured_logs():
        response.subscribe(broken)
    assert broken.has_failed
    assert not response.subscribers


async def test_a_model_paused_for_a_subscriber_at_fault_is_read_on() -> None:
    """It has no vote any more."""
    response, attempt, broken = log_of(), ManualAttempt(), BrokenSubscriber(RuntimeError(), at=1)
    response.attach(attempt)
    response.subscribe(broken)
    assert attempt.steps == ["pause"]
    with captured_logs():
        attempt.read("a")
        attempt.read("b")
    assert attempt.steps == ["pause", "resume"]
    assert response.facts == ["a", "b"]


def test_the_end_of_a_task_is_no_fault_of_a_subscriber() -> None:
    response = log_of()
    response.subscribe(BrokenSubscriber(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        response.start()
