"""What has ended is kept by tenant: a flood pushes out only what is the flooder's own."""

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.runs.kept import Repeat
from millrace.runs.run import Run
from millrace.runs.runs import Runs
from millrace.types import Message, OnDisconnect
from millrace.wire.limits import KEPT_S
from tests.runs.test_runs import Clock, Patient, over
from tests.support.scripted_models import request

ROOM = 1_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> Runs:
    funnel: Any = Patient()
    funnel.let.set()
    return Runs(funnel, clock, lambda: 1.7e9, kept_bytes=ROOM)


def keyed(tenant: str, key: str) -> Repeat:
    return Repeat(place=(tenant, "k", key), digest=b"1")


async def ended(known: Runs, tenant: str, name: str, size: int = 0, repeat: Repeat | None = None) -> Run:
    """Let a request of so many characters run to its end."""
    asked = request(id=name, tenant=tenant, on_disconnect=OnDisconnect.DETACH)
    if size:
        prompt = dataclasses.replace(asked.prompt, messages=(Message(role="user", parts=("x" * size,)),))
        asked = replace(asked, prompt=prompt)
    run = known.start(asked, repeat=repeat)
    run.response.commit()
    await over(run)
    return run


@pytest.mark.parametrize(("count", "size"), [(2000, 0), (100, 50_000), (5, 400_000)])
async def test_a_flood_of_one_tenant_pushes_out_nothing_of_another(known: Runs, count: int, size: int) -> None:
    """Many requests, or large ones; what the other may resume, continue and repeat stays."""
    first = await ended(known, "quiet", "first", repeat=keyed("quiet", "order"))
    second = await ended(known, "quiet", "second", 20_000)
    for number in range(count):
        await ended(known, "loud", f"loud{number}", size, keyed("loud", str(number)) if number % 2 else None)
    assert known.find("quiet", "first") is first
    assert known.find("quiet", "second") is second
    assert known.repeated(keyed("quiet", "order")) is first
    assert known.find("loud", f"loud{count - 1}") is not None
    assert known.find("loud", "loud0") is None
    assert known.kept.size <= ROOM


async def test_who_comes_late_finds_room(known: Runs) -> None:
    """One alone does not keep more than half of all."""
    for number in range(100):
        await ended(known, "early", f"early{number}", 50_000)
    assert known.kept.size < 0.55 * ROOM
    late = [await ended(known, "late", f"late{number}", 50_000) for number in range(4)]
    assert [known.find("late", run.request.id) for run in late] == late


async def test_of_its_own_a_tenant_loses_first_what_has_no_key(known: Runs) -> None:
    """A repeat that is not known any more would be billed again."""
    for number in range(4):
        await ended(known, "t", f"keyed{number}", 50_000, keyed("t", str(number)))
    for number in range(50):
        await ended(known, "t", f"plain{number}", 50_000)
    assert all(known.repeated(keyed("t", str(number))) for number in range(4))
    assert known.find("t", "plain0") is None


async def test_what_could_not_be_kept_at_all_is_refused_to_who_brings_it(known: Runs) -> None:
    """Retryable; what he keeps himself does not count against him."""
    for number in range(8):
        await ended(known, "one", f"one{number}", 50_000)
    known.kept.check_fits("two", 500_000)
    known.kept.check_fits("one", 900_000)
    with pytest.raises(MillraceError) as refused:
        known.kept.check_fits("two", 900_000)
    assert (refused.value.code, refused.value.rule.retry) == ("overloaded", True)


async def test_the_last_of_a_lane_is_kept_for_the_lane_alone_after_its_time(known: Runs, clock: Clock) -> None:
    """And goes when the lane has another, or when there is too much."""
    one, two, free = [await ended(known, "t", name, 20_000) for name in ("one", "two", "free")]
    for run in (one, two):
        known.kept.hold(run.request.id)
    clock.now += KEPT_S
    known.sweep(clock.now)
    assert [known.find("t", run.request.id) for run in (one, two, free)] == [None, None, None]
    assert [known.kept.last_of_lane(run.request.id) for run in (one, two, free)] == [one, two, None]
    known.kept.release("one")
    assert known.kept.last_of_lane("one") is None
    for number in range(60):
        await ended(known, "t", f"more{number}", 20_000)
    assert known.kept.last_of_lane("two") is None
    known.kept.release("two")
    assert known.find("t", "more59") is not None


async def test_a_request_without_an_answer_keeps_nothing_of_what_was_asked(known: Runs) -> None:
    """Nobody can continue it; its text would be kept for nothing."""
    run = known.start(request(id="r", tenant="t"))
    run.cancel()
    await over(run)
    answered = await ended(known, "t", "answered", 50_000)
    assert run.request.prompt.messages == ()
    assert answered.request.prompt.messages != ()
