"""The fixtures of stores in PostgreSQL."""

import itertools
from collections.abc import Iterator

import pytest

from tests.support.shared_servers import SharedServer, postgres_server, with_tables

_names = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[SharedServer]:
    """PostgreSQL, for the tests of a module."""
    with postgres_server() as running:
        yield running


@pytest.fixture
def service(server: SharedServer) -> str:
    """The name of a service that has its tables there, and nothing in them."""
    return with_tables(server, f"service{next(_names)}")
