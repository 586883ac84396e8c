"""Who may serve a data_dir, and which processes still write to it: real locks, also of real processes."""

import asyncio
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from millrace.stores import processes
from millrace.stores.handover import Handover
from millrace.stores.processes import DataDirInUseError, Processes, claim
from millrace.stores.spending import SqliteSpending
from millrace.types import Outcome
from millrace.types.budget import AccountKind, AccountName
from tests.support.bills import LARGE, REQUEST, SMALL, USAGE, Store, StubAttempt, call, settle
from tests.support.logs import captured_logs
from tests.support.waiting import PATIENCE_S, until

HOLD = """
import sys
from millrace.stores.processes import Processes, claim
held = claim(sys.argv[1]), Processes(sys.argv[1], "theirs")
print("held", flush=True)
sys.stdin.read()
"""
OPENED_AT = 1_700_000_000.5  # of the bills of `Store`
KEY = AccountName(AccountKind.KEY, "anonymous", "key")
TENANT, USER = AccountName(AccountKind.TENANT, "anonymous"), AccountName(AccountKind.USER, "anonymous", "ann")
WORST = Decimal(10 * 2500 + 100 * 10_000) / 10**9


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CLAIM_S", 0.1)


def test_one_process_serves_a_folder(tmp_path: Path) -> None:
    """The other is told who it is, until it lets go."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DataDirInUseError, match=f"pid {other.pid};") as refused:
            claim(str(tmp_path))
        assert str(tmp_path) in str(refused.value)
        mine = Processes(str(tmp_path), "mine")
        assert mine.others() == {"theirs"}
        other.kill()
        other.wait()
        claim(str(tmp_path)).release()
        assert mine.others() == frozenset()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["millrace.lock", "process-mine.lock"]


def test_a_claim_that_is_released_is_free(tmp_path: Path) -> None:
    """Releasing it twice harms nobody."""
    first = claim(str(tmp_path))
    first.release()
    second = claim(str(tmp_path))
    first.release()
    with pytest.raises(DataDirInUseError):
        claim(str(tmp_path))
    second.release()


def test_a_claim_waits_for_a_server_that_was_told_to_stop_just_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a moment until its drain begins."""
    first = claim(str(tmp_path))
    monkeypatch.setattr(processes, "CLAIM_S", 30.0)
    monkeypatch.setattr(time, "sleep", lambda _: first.release())
    claim(str(tmp_path)).release()


def test_where_there_are_no_locks_it_is_served_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows, and file systems without them."""
    monkeypatch.setattr(processes, "fcntl", None)
    with captured_logs() as logs:
        claim(str(tmp_path)).release()
        mine = Processes(str(tmp_path), "mine")
        assert mine.others() == frozenset()
        mine.leave()
    assert "data_dir cannot be locked here" in logs.from_millrace.getvalue()


class Two:
    """A process that drains on a data_dir, and the one that has started on it."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new = Store(str(folder), "old"), Store(str(folder), "new")
        self.old_process, self.new_process = Processes(str(folder), "old"), Processes(str(folder), "new")
        self.counted: dict[AccountName, Decimal] = {}

    async def begin(self) -> tuple[Decimal, "asyncio.Task[None]"]:
        """Return what the key has spent today, as the new process finds it, and what follows the old one."""
        await self.old.database.ready()
        handover = Handover(self.new.ledger, SqliteSpending(self.new.database), self.new_process, lambda: OPENED_AT + 1)
        handover.count = self.count
        await self.new.database.ready()
        await handover.begin()
        found = await handover.read((KEY, TENANT, USER), False)
        assert found[KEY] == found[TENANT]
        assert found[USER].day == 0
        return found[KEY].day, asyncio.create_task(handover.follow())

    def count(self, name: AccountName, dollars: Decimal) -> None:
        self.counted[name] = self.counted.get(name, Decimal(0)) + dollars

    async def statuses(self) -> list[str]:
        return [row["status"] for row in await self.new.rows()]

    def close(self) -> None:
        for store in (self.old, self.new):
            store.database.close()


async def test_the_rows_of_a_living_process_stay_its_own(tmp_path: Path) -> None:
    """They are not killed, and count at what they have cost so far, and not at what they may cost."""
    two = Two(tmp_path)
    keyed = replace(REQUEST, key_id="key")
    call(done := two.old.bill(replace(keyed, id="resp_0")), SMALL, StubAttempt(usage=USAGE))
    settle(done)
    attempt = StubAttempt(words=2, usage=USAGE)
    charge = call(running := two.old.bill(keyed), LARGE, attempt, Outcome.RUNNING)
    spent, following = await two.begin()
    assert spent == Decimal(8 * 150 + 20 * 600) / 10**9
    assert await two.statuses() == ["completed", "open"]
    running.progress()
    assert two.counted == {}
    two.old.ledger.wants_progress = True
    attempt.usage = None
    so_far = running.progress().cost
    assert 0 < so_far < WORST
    await until(lambda: two.counted == {KEY: so_far, TENANT: so_far})
    attempt.usage = USAGE
    charge.outcome = Outcome.ANSWERED
    cost = settle(running).statement.cost
    assert cost not in {so_far, WORST}
    await until(lambda: two.counted == {KEY: cost, TENANT: cost})
    two.old_process.leave()
    await asyncio.wait_for(following, PATIENCE_S)
    assert await two.statuses() == ["completed", "completed"]
    assert two.counted == {KEY: cost, TENANT: cost}
    two.close()


async def test_what_a_process_leaves_open_when_it_dies_is_closed_by_the_next(tmp_path: Path) -> None:
    """As killed, at the most that it may have cost, which counts."""
    two = Two(tmp_path)
    call(two.old.bill(replace(REQUEST, key_id="key")), LARGE, StubAttempt())
    spent, following = await two.begin()
    assert spent == Decimal(0)
    two.old_process.leave()  # the kernel does the same for a process that is killed
    await asyncio.wait_for(following, PATIENCE_S)
    assert await two.statuses() == ["killed"]
    assert two.counted == {KEY: WORST, TENANT: WORST}
    two.close()


async def test_a_start_counts_what_a_crash_left_open_though_it_cannot_be_written_yet(tmp_path: Path) -> None:
    """The row is closed once the file can be written."""
    two = Two(tmp_path)
    two.old_process.leave()
    call(two.old.bill(replace(REQUEST, key_id="key")), LARGE, StubAttempt())
    spent, following = await two.begin()
    assert spent == WORST
    await asyncio.wait_for(following, PATIENCE_S)
    assert await two.statuses() == ["killed"]
    two.close()
