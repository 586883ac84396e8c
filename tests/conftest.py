"""The fixtures of all tests, and what holds for the whole run."""

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import app, assembly, log
from millrace.caches import semantic
from millrace.stores.database import MEMORY
from tests.support.bills import Store
from tests.support.server import Running, Start, started

log.configure(level="critical")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run tests in the loop that servers run in."""
    return {"server": app.new_loop}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped anything, where nothing may be missing."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("MILLRACE_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def lookups_may_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason for a miss; what is about the deadline sets its own."""
    monkeypatch.setattr(assembly, "LOOKUP_S", 30.0)
    monkeypatch.setattr(semantic, "_STARTING_S", 30.0)


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
