"""What the workers of a server tell each other in files, and what each has of what is limited."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from millrace.access.tickets import Tickets
from millrace.errors import MillraceError
from millrace.ports.replicas import Worker
from millrace.principal import Limits, Principal, Role
from millrace.stores.processes import First
from millrace.stores.workers import FileShelf, WorkerFiles
from millrace.telemetry import families as the
from millrace.telemetry.numbers import Numbers, unpacked
from tests.support.waiting import PATIENCE_S

ORIGIN = "https://app.example"
OWNER = Principal(key_id="k", tenant="t", role=Role.USE, limits=Limits(in_flight=3))


def worker(folder: Path, number: int, first: First) -> WorkerFiles:
    told = Worker(folder=str(folder), number=number, count=2, address=f"http://127.0.0.1:{number}")
    return WorkerFiles(told, f"{number:08}{'e' * 8}", first)


async def test_workers_find_each_other_and_the_first_one(tmp_path: Path) -> None:
    one, other = First(str(tmp_path), "00000001"), First(str(tmp_path), "00000002")
    assert one.take()
    assert not other.take()
    workers = worker(tmp_path, 1, one), worker(tmp_path, 2, other)
    for each in workers:
        await each.announce()
    assert await workers[1].find("00000001") == "http://127.0.0.1:1"
    assert await workers[0].find("00000001") is None  # it is itself
    assert await workers[0].first() is None
    assert await workers[1].first() == "http://127.0.0.1:1"
    (tmp_path / "1").unlink()  # as a supervisor does once a worker has died
    await workers[1].look()
    with pytest.raises(LookupError):
        await workers[1].first()
    one.leave()
    await asyncio.wait_for(other.follow(), PATIENCE_S)
    assert await workers[1].first() is None
    other.leave()


async def test_what_a_worker_has_counted_is_left_when_it_is_gone(tmp_path: Path) -> None:
    first = First(None)
    gone, left = worker(tmp_path, 1, first), worker(tmp_path, 2, first)
    await gone.announce()
    work = asyncio.create_task(gone.leave(lambda: b"counted"))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await left.left() == []  # it still answers by itself
    (tmp_path / "1").unlink()
    assert await left.left() == [b"counted"]
    assert await gone.left() == []


def test_a_ticket_is_redeemed_once_by_any_worker(tmp_path: Path) -> None:
    now = 0.0
    one, other = (Tickets(lambda: now, {"k": OWNER}.get, FileShelf(str(tmp_path))) for _ in range(2))
    for first, second in ((one, other), (other, one)):
        ticket = one.issue(replace(OWNER, rotations=2), ORIGIN)
        assert first.redeem(ticket, ORIGIN) == replace(OWNER, rotations=2)
        for each in (second, first):
            with pytest.raises(MillraceError, match="unknown, used"):
                each.redeem(ticket, ORIGIN)
    ticket = one.issue(OWNER, ORIGIN)
    with pytest.raises(MillraceError, match="another Origin"):
        other.redeem(ticket, "https://other.example")
    assert not [*tmp_path.iterdir()]
    late = one.issue(OWNER, ORIGIN)
    now = 61.0
    with pytest.raises(MillraceError, match="expired"):
        other.redeem(late, ORIGIN)


def test_what_several_have_counted_is_added_up() -> None:
    """What each sees as it is, is not; of one that is gone its gauges do not count any more."""
    mine, other = Numbers(), Numbers()
    for numbers, amount in ((mine, 1), (other, 2)):
        numbers.count(the.TRIMMED_TOKENS, (), amount)
        numbers.count(the.CONNECTIONS, (), amount)
        numbers.count(the.DRAINING, (), amount - 1)
        numbers.observe(the.LAG, (), 0.01)
    mine.add_sibling(unpacked(other.packed()))
    mine.add_sibling(unpacked(other.packed()), is_gone=True)
    assert mine.counts[the.TRIMMED_TOKENS] == {(): 5}
    assert mine.counts[the.CONNECTIONS] == {(): 3}
    assert mine.counts[the.DRAINING] == {(): 1}
    assert sum(mine.histograms[the.LAG][()].counts) == 3


def test_a_worker_has_its_share_of_each_limit() -> None:
    limits = Limits(in_flight=1, requests_per_minute=7, dollars_per_day=Decimal(1), max_output_tokens=9)
    shared = limits.shared(3)
    assert (shared.in_flight, shared.requests_per_minute, shared.max_output_tokens) == (1, 2, 9)
    assert shared.dollars_per_day == Decimal("0.333333333")
    assert limits.shared(1) == limits
