"""Runs by a manual clock: how long they are kept, how long they wait for a listener, how many there may be."""

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest

from millrace.dialects.event_log import Written
from millrace.dialects.responses import EventCodec, ResponsesProjection, in_responses
from millrace.errors import MillraceError
from millrace.funnel.bill import NOTHING
from millrace.funnel.facts import Ended
from millrace.funnel.response_log import ResponseLog
from millrace.memory import MemoryBudget
from millrace.runs.kept import Repeat
from millrace.runs.run import RUN_SIZE, Run
from millrace.runs.runs import Runs
from millrace.runs.sweeper import BEATS
from millrace.types import OnDisconnect, Scored, Status
from millrace.wire.limits import DETACHED_S, KEPT_S
from tests.support.scripted_models import request

KEPT_BYTES = 10**8


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Patient:
    """A funnel whose every answer is one word, said when it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.asked = 0
        self.refuses = False
        self.dropped: list[Any] = []  # admissions

    async def answer(self, response: ResponseLog, admission: Any) -> None:
        if self.refuses:
            raise MillraceError("overloaded", "full")
        self.asked += 1
        response.start()
        status, error = Status.COMPLETED, response.halt
        try:
            await self.let.wait()
            response.write(["word"])
        except asyncio.CancelledError:
            status, error = (Status.FAILED if response.halt else Status.CANCELLED), response.halt
            raise
        finally:
            response.end(Ended(status=status, error=error, statement=NOTHING))

    def drop(self, response: ResponseLog, admission: Any) -> None:
        self.dropped.append(admission)
        response.start()
        status = Status.FAILED if response.halt else Status.CANCELLED
        response.end(Ended(status=status, error=response.halt, statement=NOTHING))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def funnel() -> Patient:
    return Patient()


@pytest.fixture
def known(funnel: Patient, clock: Clock) -> Runs:
    as_funnel: Any = funnel
    return Runs(as_funnel, clock, lambda: 1.7e9, kept_bytes=KEPT_BYTES)


async def over(run: Run) -> None:
    await asyncio.wait((run.done,))
    assert run.is_over


def status(run: Run) -> Status | None:
    return run.response.ended.status if run.response.ended else None


def asked(**fields: Any) -> Any:
    return request(on_disconnect=OnDisconnect.DETACH, **fields)


async def test_an_ended_run_is_kept_ten_minutes(known: Runs, funnel: Patient, clock: Clock) -> None:
    """From its end on, however long it ran; one that runs is kept as long as it runs."""
    funnel.let.set()
    early = known.start(asked(id="early"))
    await over(early)
    clock.now += 5
    funnel.let.clear()
    late = known.start(asked(id="late"))
    late.add_listener()
    await asyncio.sleep(0)
    clock.now += KEPT_S - 5.001
    known.sweep(clock.now)
    assert known.find("anonymous", "early") is early
    clock.now += 0.001
    known.sweep(clock.now)
    assert known.find("anonymous", "early") is None
    clock.now += KEPT_S
    known.sweep(clock.now)
    assert known.find("anonymous", "late") is late
    funnel.let.set()
    await over(late)
    clock.now += KEPT_S - 0.001
    known.sweep(clock.now)
    assert known.find("anonymous", "late") is late
    assert known.find("other", "late") is None


async def test_nobody_comes_back_for_a_detached_run(known: Runs, clock: Clock) -> None:
    """60 s after the last has gone; whoever comes meanwhile starts them anew."""
    run = known.start(asked())
    run.add_listener()
    await asyncio.sleep(0)
    clock.now += 10 * DETACHED_S
    known.sweep(clock.now)
    run.add_listener()
    run.remove_listener()
    known.sweep(clock.now + DETACHED_S)
    assert status(run) is None
    run.remove_listener()
    clock.now += DETACHED_S - 1
    known.sweep(clock.now)
    run.add_listener()
    run.remove_listener()
    clock.now += DETACHED_S - 0.001
    known.sweep(clock.now)
    await asyncio.sleep(0)
    assert status(run) is None
    known.sweep(clock.now + 0.001)
    await over(run)
    assert status(run) is Status.CANCELLED


async def test_by_default_a_run_ends_with_its_last_listener(known: Runs) -> None:
    run = known.start(request())
    run.add_listener()
    run.add_listener()
    await asyncio.sleep(0)
    assert run.listeners > 1
    run.remove_listener()
    assert run.listeners <= 1
    await asyncio.sleep(0)
    assert status(run) is None
    run.remove_listener()
    await over(run)
    assert status(run) is Status.CANCELLED


async def test_what_has_ended_holds_nothing_of_its_tenants_share(known: Runs, funnel: Patient, clock: Clock) -> None:
    """Also if the sweep, which looks at all in turn, comes to it when it has ended."""
    memory = MemoryBudget(10**9)
    runs = [known.start(asked(id=f"resp_{number}"), held=memory.hold("t")) for number in range(4 * BEATS)]
    await asyncio.sleep(0)
    known.sweep(clock.now)
    assert memory.requests.used > 0
    funnel.let.set()
    for run in runs:
        await over(run)
    for _ in range(2 * BEATS):
        known.sweep(clock.now)
    assert memory.requests.used == 0


async def test_what_is_late_before_it_runs_asks_nobody(known: Runs, funnel: Patient, clock: Clock) -> None:
    """It has its beginning and its end, and its admission goes the same way; one that runs is halted by the beat."""
    admission: Any = object()
    late = known.start(asked(id="late", deadline_at=clock.now), admission)
    await over(late)
    assert (funnel.asked, status(late), late.response.started_at) == (0, Status.FAILED, clock.now)
    assert funnel.dropped == [admission]
    runs_on = known.start(asked(id="b", deadline_at=clock.now + 1))
    await asyncio.sleep(0)
    known.sweep(clock.now + 0.999)
    await asyncio.sleep(0)
    assert status(runs_on) is None
    known.sweep(clock.now + 1)
    await over(runs_on)
    assert runs_on.response.halt is not None
    assert runs_on.response.halt.code == "deadline_exceeded"


async def test_the_first_cancel_counts(known: Runs) -> None:
    """A second one must not break into the settling of the first, nor a halt change why it ended."""
    run = known.start(asked())
    await asyncio.sleep(0)
    run.cancel()
    run.halt(MillraceError("deadline_exceeded", "late"))
    run.cancel()
    await over(run)
    assert status(run) is Status.CANCELLED
    run.cancel()


async def test_one_cancelled_before_its_task_ran_has_its_beginning_and_its_end(known: Runs, funnel: Patient) -> None:
    run = known.start(asked())
    projection = run.projection(in_responses(negotiated=False))
    run.cancel()
    await over(run)
    assert (funnel.asked, status(run)) == (0, Status.CANCELLED)
    assert projection.event_log.is_begun


async def test_memory_is_bounded(known: Runs, funnel: Patient) -> None:
    """The oldest go first, also those that were told to nobody; the last one always stays. Half is left for others."""
    known.kept._allowed = 10 * RUN_SIZE
    funnel.let.set()
    for number in range(20):
        run = known.start(asked(id=f"r{number}"))
        await over(run)
    kept = [number for number in range(20) if known.find("anonymous", f"r{number}")]
    assert kept == [*range(20 - len(kept), 20)]
    assert 2 <= len(kept) <= 8
    known.kept._allowed = 0
    await over(known.start(asked(id="last")))
    assert known.find("anonymous", "last")
    assert known.find("anonymous", "r19") is None


class Reader:
    """A listener that takes all at once."""

    ready, congested = True, False

    def fail(self) -> None: ...

    def show(self, deltas: list[str], number: int) -> bool:
        return False

    def notify(self, size: int) -> None:
        pass


async def test_the_words_of_an_ended_run_are_packed(known: Runs, funnel: Patient) -> None:
    """What was told stays as it was told, by its numbers; who comes later gets the same words at once."""
    source = ResponseLog(request(), lambda: 0.0)
    run = known.start(request())
    early = run.projection(in_responses(negotiated=True))
    early.event_log.join(Reader())
    await asyncio.sleep(0)
    run.response.follow(source, is_joined=False)
    source.commit()
    for word in ("a", "b", "c"):
        source.write([word])
    run.response.leave()
    funnel.let.set()
    await over(run)
    assert [fact for fact in run.response.facts if isinstance(fact, str)] == ["abcword"]
    assert [event for event in early.event_log.written if isinstance(event, str)] == ["a", "b", "c", "word"]
    late = run.projection(in_responses(negotiated=False))
    late.event_log.join(Reader())
    late.event_log.frames(0, EventCodec(late), 10**6)
    assert [event for event in late.event_log.written if isinstance(event, str)] == ["abcword"]
    assert run.response.message().text == "abcword"
    assert run.response._source is None


class Leaver(Reader):
    """A listener that leaves at the end, as a stream over HTTP does: before the run is done."""

    def __init__(self, run: Run, projection: ResponsesProjection) -> None:
        self._run, self._projection = run, projection
        run.add_listener()
        projection.event_log.join(self)

    def notify(self, size: int) -> None:
        if self._projection.event_log.is_finished:
            assert not self._run.is_over
            self._projection.event_log.leave(self)
            self._run.remove_listener()


async def test_what_was_shown_is_packed_with_the_text_of_the_run(known: Runs, funnel: Patient) -> None:
    run = known.start(asked())
    projection = run.projection(in_responses(negotiated=False))
    Leaver(run, projection)
    await asyncio.sleep(0)
    run.response.commit()
    run.response.write(["some "])
    funnel.let.set()
    await over(run)
    written = projection.event_log.written
    assert isinstance(written, Written)
    assert [fact for fact in run.response.facts if isinstance(fact, str)] == ["some word"]
    assert any(fact is written._text for fact in run.response.facts)


async def test_what_comes_after_the_end_is_counted_too(known: Runs, funnel: Patient) -> None:
    """Told once more in another dialect a run keeps more, and older ones may have to go."""
    funnel.let.set()
    older, run = known.start(asked(id="older")), known.start(asked(id="r"))
    await over(older)
    await over(run)
    before = run.size
    known.kept._allowed = 2 * (older.size + before)
    run.add_listener()
    projection = run.projection(in_responses(negotiated=True))
    run.remove_listener()
    assert run.size >= before + projection.event_log.log_bytes
    assert known.find("anonymous", "older") is None
    assert known.find("anonymous", "r") is run
    known.kept.forget("r")
    run.add_listener()
    run.remove_listener()
    assert known.kept.size == 0


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("heard", ["still", "until its end", "by nobody"])
async def test_what_is_counted_is_about_what_is_held(known: Runs, funnel: Patient, *, heard: str, scored: bool) -> None:
    """For runs of a thousand words, told word by word or to nobody. Without listeners they are a third as large."""
    fields: dict[str, Any] = {"extras": {"logprobs": True}} if scored else {}
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(20):
            run = known.start(asked(id=f"r{number}", **fields))
            reader = Reader()
            if heard != "by nobody":
                run.add_listener()
                run.projection(in_responses(negotiated=False)).event_log.join(reader)
            await asyncio.sleep(0)
            run.response.commit()
            for word in range(1000):
                text = f"{word:5} "
                run.response.write([Scored(text, b'{"token":"%b","logprob":-1}' % text.encode()) if scored else text])
            funnel.let.set()
            await over(run)
            funnel.let.clear()
            if heard == "until its end":
                run.projection(in_responses(negotiated=False)).event_log.leave(reader)
                run.remove_listener()
            del reader
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.75 < known.kept.size / held < 1.5
    assert scored or held / 20 < {"still": 100_000, "until its end": 33_000, "by nobody": 15_000}[heard]


def repeat(digest: bytes = b"1") -> Repeat:
    return Repeat(place=("t", "k", "i"), digest=digest)


async def test_a_repeat_is_known_as_long_as_its_run(known: Runs, funnel: Patient, clock: Clock) -> None:
    """While it runs, and ten minutes more; not when it was refused."""
    run = known.start(asked(), repeat=repeat())
    assert known.repeated(repeat()) is run
    with pytest.raises(MillraceError, match="another request"):
        known.repeated(repeat(b"2"))
    funnel.let.set()
    await over(run)
    assert known.repeated(repeat()) is run
    clock.now += KEPT_S
    known.sweep(clock.now)
    assert known.repeated(repeat()) is None
    funnel.refuses = True
    refused = known.start(asked(), repeat=repeat())
    assert known.repeated(repeat()) is refused
    await over(refused)
    assert refused.error is not None
    assert known.repeated(repeat()) is None
    assert known.find("anonymous", "resp_1") is None


async def test_a_repeat_of_an_abandoned_request_runs_anew(known: Runs, funnel: Patient) -> None:
    """Also while the first one is still being cancelled; what it leaves behind does not unlist the second."""
    first = known.start(request(), repeat=repeat())
    first.add_listener()
    await asyncio.sleep(0)
    first.remove_listener()
    assert not first.is_over
    assert known.repeated(repeat()) is None
    second = known.start(asked(id="second"), repeat=repeat())
    await over(first)
    assert known.repeated(repeat()) is second
    funnel.let.set()
    await over(second)
    assert known.repeated(repeat()) is second
