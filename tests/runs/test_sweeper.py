"""What the beat does to connections, streams and runs: who is looked after when, and that nobody is left out."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from millrace.access.keys import ANONYMOUS
from millrace.memory import MemoryBudget
from millrace.runs import runs
from millrace.runs.runs import Runs
from millrace.runs.sweeper import BEAT_S, BEATS
from millrace.web.flood import ReadingShare
from millrace.web.process import Process
from millrace.web.session import Session
from millrace.wire.limits import DETACHED_S
from tests.support.scripted_models import request


class Writer:
    def __init__(self) -> None:
        self.on_pause: Any = None
        self.on_resume: Any = None
        self.on_lost: Any = None
        self.held: Any = None
        self.unsent = 0
        self.is_half_closed = False
        self.share = ReadingShare()

    def write_frames(self, payloads: list[bytes]) -> None:
        pass

    def is_late(self, _now: float, _patience_s: float) -> bool:
        return False


class Keys:
    """Every key is good until it is revoked. Counts how often it is asked."""

    def __init__(self) -> None:
        self.revoked = False
        self.asked = 0

    def is_valid(self, _: str) -> bool:
        self.asked += 1
        return not self.revoked

    def may_stay(self, _: object) -> bool:
        return not self.revoked


class Failing:
    def sweep(self, now: float) -> None:
        raise RuntimeError(f"at {now}")


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def process(keys: Keys) -> Process:
    nothing: Any = None
    gate: Any = SimpleNamespace(keyring=keys)
    known: Any = SimpleNamespace(running=[])
    embeddings: Any = SimpleNamespace(end_revoked=lambda _: None)
    return Process(
        funnel=nothing,
        runs=known,
        intake=nothing,
        conversations=nothing,
        clock=lambda: 0.0,
        wall=lambda: 0.0,
        epoch="e",
        hand_over=nothing,
        gate=gate,
        backlog=nothing,
        memory=MemoryBudget(10**6),
        cache=nothing,
        ledger=nothing,
        feedbacks=nothing,
        reports=nothing,
        settings=nothing,
        embeddings=embeddings,
        chats=nothing,
        router_reports=nothing,
        batches=nothing,
        levers=nothing,
        dashboard=nothing,
        drain_s=1.0,
        max_age_s=1000.0,
        stuck_s=1000.0,
        max_message_bytes=1000,
    )


def connected(process: Process, kind: type[Session] = Session) -> Session:
    session = kind(process, Writer(), ANONYMOUS, negotiated=False)
    process.sessions.add(session)
    return session


def is_closed(session: Session) -> bool:
    return session._close.done()


async def test_an_idle_connection_is_looked_at_once_in_a_while(process: Process, keys: Keys) -> None:
    """Not all at the same beat; within a second each has had its turn, so that a revoked key is noticed in time."""
    assert 2 * BEATS * BEAT_S < 2.0  # the last of one round, the last of the next
    sessions = [connected(process) for _ in range(200)]
    looked = []
    for beat in range(BEATS):
        keys.asked = 0
        process.sweep(float(beat))
        looked.append(keys.asked)
    assert sum(looked) == len(sessions)
    assert max(looked) < len(sessions) / 2
    keys.revoked = True
    for beat in range(BEATS):
        process.sweep(float(beat))
    assert all(map(is_closed, sessions))


async def test_after_a_change_of_keys_every_connection_is_looked_at_at_the_next_beat(
    process: Process, keys: Keys
) -> None:
    """So the idle ones of a revoked key are closed one beat after the keys were read."""
    sessions = [connected(process) for _ in range(3 * BEATS)]
    process.sweep(0.0)
    keys.revoked = True
    process.sweep_all_next()
    process.sweep(1.0)
    assert all(map(is_closed, sessions))


async def test_a_busy_connection_is_looked_at_at_every_beat(process: Process, keys: Keys) -> None:
    """One that leaves, and one whose peer does not keep up, for as long as it does not."""
    leaving, slow, *others = [connected(process) for _ in range(2 + BEATS)]
    leaving.start_closing(by=100.0)
    slow._outbox._pause()
    gone = connected(process)
    gone.start_closing(by=100.0)
    process.sessions.discard(gone)
    process.sessions.difference_update(others)
    for _ in range(BEATS):
        keys.asked = 0
        process.sweep(1.0)
        assert keys.asked == 2
    slow._outbox._resume()
    process.sessions.update(others)
    looked: list[bool] = []
    for _ in range(2 * BEATS):
        slow_before = slow._liveness._moved_at
        process.sweep(float(len(looked) + 2))
        looked.append(slow._liveness._moved_at != slow_before)
    assert 1 <= looked.count(True) <= 4
    keys.revoked = True
    process.sweep(1.0)
    assert is_closed(leaving)


async def test_how_long_a_peer_takes_nothing_counts_from_when_it_did_not_keep_up(process: Process) -> None:
    """And not from the last look at it, which may be long ago."""
    session = connected(process)
    session._liveness._moved_at = -1e6
    session._outbox._pause()
    process.sweep(process.clock() + process.stuck_s / 2)
    assert not is_closed(session)
    session._writer.unsent = 1  # type: ignore[misc]
    process.sweep(process.clock() + process.stuck_s)
    process.sweep(process.clock() + 2 * process.stuck_s)
    assert is_closed(session)


async def test_a_session_that_has_ended_is_not_watched(process: Process) -> None:
    """Its last writes may fill its socket."""
    session = connected(process)
    process.sessions.discard(session)
    session._outbox._pause()
    process.sweep(1.0)
    assert not process.busy


async def test_one_that_fails_keeps_nobody_from_theirs(process: Process, keys: Keys) -> None:
    """Connections, streams and runs alike."""
    cancelled: list[str] = []

    def run(name: str) -> Any:
        def cancel() -> None:
            if name == "bad":
                raise RuntimeError(name)
            cancelled.append(name)

        return SimpleNamespace(request=SimpleNamespace(key_id="k"), cancel=cancel)

    looked: list[float] = []
    streams: Any = process.streams
    streams |= {Failing(), Looked(looked), Failing()}
    sessions = [connected(process), connected(process, FailingSession), connected(process)]
    for session in sessions:
        session.start_closing(by=100.0)
    process.runs.running.extend([run("bad"), run("good")])
    keys.revoked = True
    process.sweep(1.0)
    assert [is_closed(session) for session in sessions] == [True, False, True]
    assert looked == [1.0]
    assert cancelled == ["good"]


class FailingSession(Session):
    def sweep(self, now: float) -> None:
        Failing().sweep(now)


class Looked:
    def __init__(self, at: list[float]) -> None:
        self.sweep = at.append


class Slow:
    """A funnel that never answers."""

    async def answer(self, _: Any) -> None:
        await asyncio.Event().wait()

    def drop(self, response: Any, admission: Any) -> None:
        response.start()


async def test_a_run_whose_sweep_fails_keeps_no_other_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: Any = Slow()
    known = Runs(slow, lambda: 0.0, lambda: 0.0, kept_bytes=10**6)
    first, second = known.start(request(id="first")), known.start(request(id="second"))
    second.left_at = 0.0
    halt = runs._halt_if_late

    def fails_for_the_first(run: Any, now: float) -> None:
        if run is first:
            raise RuntimeError("no")
        halt(run, now)

    monkeypatch.setattr(runs, "_halt_if_late", fails_for_the_first)
    known.sweep(DETACHED_S)
    await asyncio.sleep(0)
    assert second._task is not None
    assert second._task.cancelling()
    await known.stop()
