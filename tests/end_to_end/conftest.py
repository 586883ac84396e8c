"""The fixtures of servers that share a Redis."""

import asyncio
from collections.abc import Iterator

import pytest

from millrace.stores.redis import link as link_module
from tests.support.shared_servers import SharedServer, redis_server
from tests.support.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def redis() -> Iterator[SharedServer]:
    """Redis, for the tests of a module."""
    with redis_server() as running:
        yield running


@pytest.fixture(autouse=True)
def redis_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it is late, and not away; what is about its deadlines has those of the product."""
    monkeypatch.setattr(link_module, "_patience", lambda _: asyncio.timeout(PATIENCE_S))
    monkeypatch.setattr(link_module, "SOON_S", PATIENCE_S)
