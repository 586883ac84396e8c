"""URLs of Redis and PostgreSQL in `[shared]`: what is wrong is said, and no password with it."""

import pytest

from millrace.settings.shared import invalid_shared


def faults(key: str, url: str) -> list[str]:
    return [str(fault) for fault in invalid_shared({"shared": {key: url}})]


@pytest.mark.parametrize(
    ("key", "url", "words"),
    [
        ("redis", "http://:s3cret@host", "it is no URL"),
        ("redis", "redis://:s3cret/1@host/0", "it is no URL"),
        ("redis", "redis://:s3cret@host/millrace", "not the number of a database"),
        ("redis", "redis://:s3cret@host?db=one", "not the number of a database"),
        ("redis", "redis://:s3cret@host?decode_responses=1", "decode_responses is no option of it"),
        ("postgres", "mysql://me:s3cret@host/x", "it is no URL"),
        ("postgres", "postgresql://me:s3cret%@host/x", "PostgreSQL cannot read it"),
        ("postgres", "postgresql://me:s3cret/@host/x", "its port is not a number"),
        ("postgres", "postgresql://me:s3cret@host/x?pool=1", "PostgreSQL cannot read it"),
    ],
)
def test_what_cannot_be_a_url_of_one_is_a_fault(key: str, url: str, words: str) -> None:
    (fault,) = faults(key, url)
    assert fault.startswith(f"shared.{key}: ")
    assert words in fault
    assert "s3cret" not in fault


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("redis", "redis://host"),
        ("redis", "rediss://me:s3cret%2F@host:6380/2?ssl_ca_certs=/etc/ca.pem&client_name=millrace"),
        ("redis", "unix:///run/redis.sock?db=1"),
        ("postgres", "postgresql:///millrace?host=/run/postgresql"),
        ("postgres", "postgres://me:s3cret#1@one:5432,two:5433/millrace?target_session_attrs=primary"),
    ],
)
def test_all_that_their_clients_take_can_be_written(key: str, url: str) -> None:
    assert faults(key, url) == []
