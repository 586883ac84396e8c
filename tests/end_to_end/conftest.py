"""The fixtures of servers that share a Redis."""

from collections.abc import Iterator

import pytest

from tests.support.shared_servers import SharedServer, patient_with_redis, redis_server


@pytest.fixture(scope="module")
def redis() -> Iterator[SharedServer]:
    """Redis, for the tests of a module."""
    with redis_server() as running:
        yield running


@pytest.fixture(autouse=True)
def redis_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no fault of it."""
    patient_with_redis(monkeypatch)
