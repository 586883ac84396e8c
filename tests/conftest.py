"""The fixtures of all tests, and what holds for the whole run."""

import gc
import os
import pkgutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from importlib import import_module
from typing import Any

import pytest
from coverage import Coverage
from hypothesis import settings as hypothesis_settings

import millrace as server
import millrace_client
from millrace import app, assembly, log
from millrace.accounts.dashboard import dashboard, rollups
from millrace.caches import exact, semantic, table
from millrace.schemas import process as schemas
from millrace.stores import archive, ledger
from millrace.stores.database import MEMORY
from millrace.web import elsewhere
from tests.support.bills import Store
from tests.support.clock import FreeClock
from tests.support.server import Running, Start, started

log.configure(level="critical")
# How long an example takes says more of what else the machine does. What hangs is ended by the time limit of its test.
hypothesis_settings.register_profile("patient", parent=hypothesis_settings(), deadline=None)
hypothesis_settings.load_profile("patient")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run tests in the loop that servers run in."""
    return {"server": app.new_loop}


TRACED_CASES = 2  # of a test; further ones reach hardly another line
TRACED_S = 1.0  # of processor time of a test; what goes on for longer goes the same ways again


class Tracing:
    """Coverage of the beginning of each test. Tracing doubles the time of whatever is run."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage
        self._is_on = False
        signal.signal(signal.SIGVTALRM, self.end)

    def begin(self) -> None:
        """Trace until the end of the test, or until it has used `TRACED_S`."""
        self._coverage.start()
        self._is_on = True
        signal.setitimer(signal.ITIMER_VIRTUAL, TRACED_S)

    def end(self, *_: object) -> None:
        """Trace no more, if that has not ended yet."""
        if self._is_on:
            self._is_on = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self._coverage.stop()


TRACED = pytest.StashKey[Tracing]()  # in the stash of each test that coverage is measured in


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Trace the import of all that is measured, in one process, and no more until a test begins."""
    coverage = Coverage.current()
    if coverage is None:
        return (yield)
    if not hasattr(session.config, "workerinput"):
        for package in (server, millrace_client):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                import_module(module.name)
    coverage.stop()
    collected = yield
    tracing = Tracing(coverage)
    cases = Counter[str]()
    for item in session.items:
        function = item.nodeid.partition("[")[0]
        cases[function] += 1
        if cases[function] <= TRACED_CASES and not item.get_closest_marker("untraced"):
            item.stash[TRACED] = tracing
    return collected


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure coverage in a test that is traced, and in no other; return what the test's protocol does."""
    tracing = item.stash.get(TRACED, None)
    if tracing is None:
        return (yield)
    tracing.begin()
    try:
        return (yield)
    finally:
        tracing.end()


def pytest_collection_finish() -> None:
    """Let the garbage collector look no more at what all tests are made of: it takes 0.3 s each time."""
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped anything, where nothing may be missing."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("MILLRACE_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# Deadlines of what is looked up, checked, sent or asked among replicas: where they pass, less is done.
DEADLINES = (
    (assembly, "LOOKUP_S"),
    (exact, "LOOKUP_S"),
    (semantic, "_STARTING_S"),
    (table, "SELECT_S"),
    (archive, "LOOKUP_S"),
    (ledger, "ANSWERED_S"),
    (schemas, "MAX_TURN_S"),
    (elsewhere, "CONNECT_S"),
    (elsewhere, "SIBLING_S"),
    (elsewhere, "ANSWER_S"),
    (elsewhere, "HEAD_S"),
    (dashboard, "BUDGETS_S"),
)


@pytest.fixture(autouse=True)
def work_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason for a miss; what is about a deadline sets its own."""
    for module, name in DEADLINES:
        monkeypatch.setattr(module, name, 30.0)
    monkeypatch.setattr(rollups.Rollups.catch_up, "__defaults__", (30.0,))


@pytest.fixture
def free_clock(monkeypatch: pytest.MonkeyPatch) -> FreeClock:
    """The clock of servers that start from now on: a busy machine makes no peer late."""
    clock = FreeClock()
    monkeypatch.setattr(assembly, "CLOCK", clock)
    return clock


@pytest.fixture
def start() -> Start:
    """A starter of servers, for `async with`; its argument edits the configuration before it is read."""
    return started


@pytest.fixture
def store() -> Iterator[Store]:
    """A ledger in memory."""
    made = Store(MEMORY)
    yield made
    made.database.close()


@pytest.fixture
async def millrace(start: Start) -> AsyncIterator[Running]:
    """A server with nothing special."""
    async with start() as running:
        yield running
