"""The fixtures of stores in PostgreSQL and Redis."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from millrace.stores.database import SqliteDatabase
from millrace.stores.postgres import archive, connection, spending
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.redis.link import RedisLink, linked
from tests.support.shared_servers import SharedServer, patient_with_redis, postgres_server, redis_server, with_tables
from tests.support.waiting import PATIENCE_S

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


@pytest.fixture
def remote(server: SharedServer, service: str) -> Iterator[PostgresDatabase]:
    """The database of a service in PostgreSQL."""
    opened = PostgresDatabase(server.url, service)
    yield opened
    opened.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """The database of a replica."""
    opened = SqliteDatabase(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[SharedServer]:
    """Redis, for the tests of a module."""
    with redis_server() as running:
        yield running


@pytest.fixture
async def link(redis: SharedServer, request: pytest.FixtureRequest) -> AsyncIterator[RedisLink]:
    """A link to it, of a service that is named as the test."""
    async with linked(redis.url, request.node.name) as link:
        yield link


@pytest.fixture(autouse=True)
def stores_may_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine they are late, and not away; what is about its deadlines has those of the product."""
    patient_with_redis(monkeypatch)
    monkeypatch.setattr(connection, "CONNECT_S", 30)
    monkeypatch.setattr(archive, "LOOKUP_S", PATIENCE_S)
    monkeypatch.setattr(spending, "READ_S", PATIENCE_S)
