"""What people say of an answer teaches, and is in no rate: it is not taken at random."""

from typing import Any

from millrace.evidence.rates import first_errors, rate
from millrace.evidence.trust import Trust
from tests.support.judged import judged


class Taught:
    """A learner that notes its lessons."""

    def __init__(self) -> None:
        self.lessons: list[Any] = []

    def teach(self, lessons: Any) -> None:
        self.lessons += lessons

    def steer(self, *_: object) -> None: ...


def test_it_teaches_and_is_in_no_rate() -> None:
    said = [judged("1", "different", probability=0.0)]
    learner = Taught()
    trust = Trust(learner, limit=0.01, needed=0.0)
    assert trust.changes(said, 0.0) == []
    trust.learn(said, [])
    assert [lesson.weight for lesson in learner.lessons] == [1.0]
    assert learner.lessons[0].log_ratio < 0
    assert rate(said, first_errors(said)).judged == 0
    assert trust.rate("acme", b"").judged == 0
