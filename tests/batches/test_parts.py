"""The parts of batches by themselves: pace, budget, disk."""

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from millrace.batches.budget import SPENT, Budget
from millrace.batches.pace import QUIET_S, SPACE_S, TURN, Pace
from millrace.batches.work import Came, Work
from millrace.ports import FileLine
from millrace.principal import Limits, Principal, Role
from millrace.runs.admission import behind_visitors
from millrace.stores.batch_disk import FolderBatchDisk
from millrace.types import Batch
from millrace.wire.batches import line_id, line_of
from tests.support.batches import CHAT, chat, jsonl


class World:
    """What a pace looks at."""

    def __init__(self) -> None:
        self.now = 100.0
        self.taken = 0
        self.running = 0
        self.is_behind = False
        self.pace = Pace(
            lambda: self.taken,
            lambda: self.running,
            lambda: self.is_behind,
            lambda: self.now,
            in_flight=8,
            max_running=20,
        )

    def start(self) -> int:
        """Start as many as may start at once; return how many that is."""
        count = 0
        while not self.pace.why_not():
            self.pace.start()
            self.pace.count_own()
            self.taken += 1
            self.running += 1
            count += 1
        return count


@pytest.fixture
def world() -> World:
    return World()


def test_alone_a_batch_has_all_places(world: World) -> None:
    assert world.start() == 8
    world.pace.end()
    world.running -= 1
    assert world.start() == 1


def test_beside_visitors_it_has_half_of_them_and_starts_now_and_then(world: World) -> None:
    world.taken += 1  # even one that came and went
    assert world.start() == 1
    assert world.pace.why_not() is TURN
    for _ in range(20):
        world.now += SPACE_S
        world.start()
    assert world.pace.own == 4
    world.now += QUIET_S
    assert world.start() == 4


def test_the_later_the_loop_is_the_longer_the_next_one_waits_beside_visitors(world: World) -> None:
    world.pace.note_late(0.1)
    assert world.start() == 8  # nobody else waits
    for _ in range(8):
        world.pace.end()
    world.running = 1
    world.now += 1.0
    assert world.pace.why_not() is TURN
    world.now += 1.1
    assert world.pace.why_not() == ""
    world.pace.note_late(0.001)
    assert world.pace.why_not() == ""


def test_a_visitor_that_runs_long_is_there_all_the_time(world: World) -> None:
    world.running = 1
    for _ in range(10):
        world.now += QUIET_S
        world.start()
    assert world.pace.own == 4


def test_beside_many_visitors_nothing_is_started(world: World) -> None:
    world.running = 10
    assert world.pace.why_not() == "many requests of others run"


def test_a_disk_that_is_behind_is_waited_for(world: World) -> None:
    world.is_behind = True
    assert world.pace.why_not() == "the server's disk is behind"


def test_a_budget_is_kept_and_is_new_each_day() -> None:
    now = 86_400.0 * 10 + 5
    budget = Budget(Decimal(1), lambda: now)
    budget.begin(Decimal("0.5"))
    assert budget.reserve(Decimal("0.3"))
    assert not budget.reserve(Decimal("0.3"))
    budget.settle(Decimal("0.3"), Decimal("0.1"))
    assert budget.reserve(Decimal("0.3"))
    assert budget.why_not(Decimal("0.2")) == SPENT
    budget.settle(Decimal("0.3"), Decimal("0.4"))
    assert budget.why_not()
    now += 86_400
    assert not budget.why_not(Decimal(1))
    assert budget.never_pays(Decimal("1.01"))


def test_without_a_budget_there_is_no_bound() -> None:
    budget = Budget(None, lambda: 0.0)
    assert budget.reserve(Decimal(10**6))
    assert not budget.never_pays(Decimal(10**6))


def test_half_of_the_rates_of_a_key_and_all_of_its_money() -> None:
    limits = Limits(requests_per_minute=9, tokens_per_minute=1, in_flight=4, dollars_per_day=Decimal(3), connections=2)
    principal = Principal(key_id="k", tenant="t", role=Role.USE, limits=limits)
    assert behind_visitors(principal).limits == Limits(
        requests_per_minute=4, tokens_per_minute=1, in_flight=2, dollars_per_day=Decimal(3), connections=2
    )


@pytest.mark.parametrize("number", [1, 50_000])
def test_a_line_is_known_by_its_id(number: int) -> None:
    assert line_of(b'{"id": "%b"}' % line_id("batch_ab12", number).encode()) == number


@pytest.mark.parametrize("written", [b"", b"{", b"{}", b'{"id": 1}', b'{"id": "x"}'])
def test_a_line_that_is_damaged_is_none(written: bytes) -> None:
    assert line_of(written) is None


async def lines_of(disk: FolderBatchDisk, start: int = 0, number: int = 1) -> list[FileLine]:
    found: list[FileLine] = []

    def look(line: FileLine) -> bool:
        found.append(line)
        return True

    await disk.lines("f", look, start, number)
    return found


async def test_lines_have_their_place_and_long_ones_are_passed_over(tmp_path: Path) -> None:
    disk = FolderBatchDisk(tmp_path / "made", longest=4)
    assert await lines_of(disk) == []
    await disk.append("f", b"ab\r\nabcd\n" + b"x" * 10_000 + b"\n\nend")
    assert await lines_of(disk) == [
        FileLine(1, 0, 4, b"ab", True),
        FileLine(2, 4, 9, b"abcd", True),
        FileLine(3, 9, 10_010, None, True),
        FileLine(4, 10_010, 10_011, b"", True),
        FileLine(5, 10_011, 10_014, b"end", False),
    ]
    assert await lines_of(disk, 10_010, 4) == (await lines_of(disk))[3:]
    disk.close()


async def test_an_append_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full after some bytes leaves what was there before."""
    disk = FolderBatchDisk(tmp_path, longest=100)
    await disk.append("f", b"whole\n")
    real, written = os.write, 0

    def write(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += 1
        if written > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:3])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            await disk.append("f", b"another\n")
    assert await disk.read("f", 0, 100) == b"whole\n"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    await disk.remove_all_but(["f"])
    assert await disk.sync("f") == 6
    await disk.remove_all_but([])
    assert await disk.sync("f") == 0
    disk.close()


CAME = Came("came", 0, 3, "small-model", Decimal(1))


class _GivesBack(FolderBatchDisk):
    """A provider gives lines back in the middle of a read."""

    work: Work | None = None

    async def lines(self, file_id: str, look: Callable[[FileLine], bool], start: int = 0, number: int = 1) -> None:
        await super().lines(file_id, look, start, number)
        if self.work is not None:
            work, self.work = self.work, None
            work.give_back([1, 2], {2: CAME})


async def test_a_line_that_is_given_back_while_others_are_read_is_not_left_out(tmp_path: Path) -> None:
    disk = _GivesBack(tmp_path, longest=1000)
    await disk.append("in", jsonl(chat(str(number), "Hello") for number in range(3)))
    batch = Batch(
        id="batch_1",
        tenant="t",
        key_id="",
        endpoint=CHAT,
        input_file_id="in",
        output_file_id="out",
        error_file_id="err",
        metadata={},
        created_at=0.0,
        expires_at=1.0,
    )
    nothing: Any = None
    work = Work(batch, disk, nothing, lambda: 0.0)
    await work.examine()
    work.set_aside([1, 2, 3])
    disk.work = work
    first, second = await work.next(), await work.next()
    assert first is not None
    assert second is not None
    assert [first.number, second.number] == [1, 2]
    assert (work.came(first), work.came(second), work.has_come) == (None, CAME, True)
    work.use_up(second)
    assert not work.has_come
    assert (await work.next(), work.has_more, work.is_elsewhere) == (None, False, True)
    work.give_back([3], {})
    assert work.has_more
    third = await work.next()
    assert third is not None
    assert third.number == 3
    assert (await work.next(), work.has_more, work.is_elsewhere) == (None, False, False)
    disk.close()
