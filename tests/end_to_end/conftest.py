"""The fixtures of servers that share a Redis."""

from collections.abc import Iterator

import pytest

from tests.support.shared_servers import SharedServer, redis_server


@pytest.fixture(scope="module")
def redis() -> Iterator[SharedServer]:
    """Redis, for the tests of a module."""
    with redis_server() as running:
        yield running
