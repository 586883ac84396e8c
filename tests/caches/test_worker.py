"""The worker's queues: lookups first; the background has its share while many come, and all when few do."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from itertools import pairwise

import pytest

from millrace.caches import worker as workers
from millrace.caches.worker import A_LITTLE, MANY, Worker
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("test")
    yield made
    made.stop(1.0)


@pytest.mark.parametrize(("waiting", "place"), [(1, 1), (A_LITTLE, A_LITTLE), (A_LITTLE + 1, 0), (20, 0)])
def test_a_lookup_overtakes_what_waits_in_the_background_unless_that_is_little(
    worker: Worker, waiting: int, place: int
) -> None:
    gate, done = threading.Event(), list[str]()
    first = worker.submit_background(lambda: gate.wait(PATIENCE_S))
    while worker._later:
        time.sleep(0.001)
    stored = [worker.submit_background(lambda: done.append("stored")) for _ in range(waiting)]
    lookup = worker.submit_lookup(lambda: done.append("looked up"))
    gate.set()
    first.result(PATIENCE_S)
    wait([*stored, lookup], PATIENCE_S)
    assert done.index("looked up") == place


def test_while_many_lookups_come_the_background_rests_nine_times_as_long_as_it_works(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WITHIN_S", 60.0)  # all of the test's lookups have come lately then
    for _ in range(MANY):
        worker.submit_lookup(lambda: None).result(PATIENCE_S)
    began: list[float] = []

    def work() -> None:
        began.append(time.monotonic())
        time.sleep(0.02)

    for future in [worker.submit_background(work) for _ in range(3)]:
        future.result(PATIENCE_S)
    assert all(later - earlier >= 0.02 / workers.SHARE for earlier, later in pairwise(began))


def test_few_lookups_do_not_hold_it_up(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WITHIN_S", 60.0)
    monkeypatch.setattr(workers, "SHARE", 1e-6)  # a rest would last for ever
    for _ in range(MANY - 1):
        worker.submit_lookup(lambda: None).result(PATIENCE_S)
    for future in [worker.submit_background(lambda: None) for _ in range(3)]:
        future.result(PATIENCE_S)


def test_what_was_held_up_is_done_once_lookups_cease(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SHARE", 1e-6)
    for _ in range(MANY):
        worker.submit_lookup(lambda: None).result(PATIENCE_S)
    for future in [worker.submit_background(lambda: None) for _ in range(3)]:
        future.result(PATIENCE_S)


def test_a_lookup_whose_time_has_passed_is_not_begun(worker: Worker) -> None:
    """However long ago its turn would have come; others after it are."""
    gate, done = threading.Event(), list[str]()
    worker.submit_lookup(lambda: gate.wait(PATIENCE_S))
    late = worker.submit_lookup(lambda: done.append("late"), time.monotonic() + 0.01)
    in_time = worker.submit_lookup(lambda: done.append("in time"), time.monotonic() + 30)
    time.sleep(0.02)
    gate.set()
    in_time.result(PATIENCE_S)
    with pytest.raises(TimeoutError):
        late.result(PATIENCE_S)
    assert done == ["in time"]


def test_nothing_is_done_while_somebody_else_is_at_work(worker: Worker) -> None:
    with worker.at_work:
        lookup = worker.submit_lookup(lambda: "found")
        with pytest.raises(TimeoutError):
            lookup.result(0.05)
    assert lookup.result(PATIENCE_S) == "found"
