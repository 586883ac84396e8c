"""Long work in a thread: one thing at a time, tenants in turn, and nothing of what is given up is done or kept."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from millrace.funnel.offload import Turns, in_thread, in_thread_if_long
from tests.support.waiting import PATIENCE_S, turns as turns_of_the_loop, until


@pytest.fixture
def turns() -> Iterator[Turns]:
    with ThreadPoolExecutor(1) as thread:
        yield Turns(thread)


class Log:
    """Work that says when it is done, and waits for a gate first."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gate = threading.Event()

    def work(self, name: str) -> Callable[[], str]:
        def work() -> str:
            self.gate.wait(PATIENCE_S)
            self.done.append(name)
            return name

        return work


def asked(turns: Turns, log: Log, names: str) -> list["asyncio.Task[str]"]:
    """Ask for one thing each; the first letter is the tenant."""
    return [asyncio.create_task(turns.run(name[0], log.work(name))) for name in names.split()]


async def test_tenants_take_turns(turns: Turns) -> None:
    """In the order in which they first came; a tenant's own in its order."""
    log = Log()
    tasks = asked(turns, log, "a1 a2 a3 a4 b1 b2 c1")
    await turns_of_the_loop(3)
    log.gate.set()
    assert await asyncio.gather(*tasks) == ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    assert log.done == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_what_is_given_up_while_it_waits_is_not_done_and_not_kept(turns: Turns) -> None:
    """Nor does it take a turn; what has begun goes on, and nothing begins beside it."""
    log = Log()
    tasks = asked(turns, log, "a1 a2 b1 a3")
    await turns_of_the_loop(3)
    work = log.work("a4")
    seen = weakref.ref(work)
    tasks.append(asyncio.create_task(turns.run("a", work)))
    del work
    await turns_of_the_loop(3)
    for task in (tasks[0], tasks[1], tasks[4]):
        task.cancel()
    await asyncio.wait(tasks[:2] + tasks[4:])
    del task
    tasks = tasks[2:4]
    gc.collect()
    assert seen() is None
    log.gate.set()
    assert await asyncio.gather(*tasks) == ["b1", "a3"]
    assert log.done[0] == "a1"
    assert sorted(log.done[1:]) == ["a3", "b1"]


async def test_one_that_is_given_up_as_its_turn_comes_passes_it_on(turns: Turns) -> None:
    log = Log()
    tasks = asked(turns, log, "a1 a2 a3")
    await turns_of_the_loop(3)
    log.gate.set()
    await until(lambda: "a1" in log.done)
    for _ in range(50):  # in some of these turns it has its turn and has not begun
        tasks[1].cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        assert await tasks[2] == "a3"


async def test_an_error_is_the_callers(turns: Turns) -> None:
    def fails() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await turns.run("a", fails)
    assert await turns.run("a", lambda: 1) == 1


@pytest.mark.parametrize(("size", "name"), [(10, "millrace-long"), (2**20 + 1, "millrace-very-long")])
async def test_what_is_very_long_has_a_thread_of_its_own(size: int, name: str) -> None:
    thread = await in_thread("t", size, threading.current_thread)
    assert thread.name.startswith(name)


@pytest.mark.parametrize(("size", "name"), [(10, "MainThread"), (2**20 + 1, "millrace-counting")])
async def test_only_what_is_long_leaves_the_loop(size: int, name: str) -> None:
    thread = await in_thread_if_long("t", size, threading.current_thread)
    assert thread.name.startswith(name)
