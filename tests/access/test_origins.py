"""Origins: what they are made of, how they are written, and which are this machine."""

from typing import Any

import pytest

from millrace.access.origins import is_loopback, parse, serialised


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example", ("https", "app.example", 443)),
        ("https://APP.example:443", ("https", "app.example", 443)),
        ("http://app.example:8080", ("http", "app.example", 8080)),
        ("http://[::1]:3000", ("http", "::1", 3000)),
        *((text, None) for text in ("null", "", "*", "https://", "https://a/", "https://a?b", "https://u@a", "a:1")),
    ],
)
def test_an_origin_is_scheme_host_and_port(text: str, origin: Any) -> None:
    """And what is more than these is none."""
    assert parse(text) == origin


def test_an_origin_is_written_as_browsers_do() -> None:
    """CORS compares texts."""
    written = ("https://APP.example:443", "http://app.example:80", "http://[::1]:3000", "https://a:80")
    assert [*map(serialised, written)] == [
        "https://app.example",
        "http://app.example",
        "http://[::1]:3000",
        "https://a:80",
    ]
    with pytest.raises(ValueError, match="is no origin"):
        serialised("*")


def test_what_is_this_machine() -> None:
    """By name and by number, not by what looks like it."""
    assert all(map(is_loopback, ("http://localhost:3000", "http://127.0.0.1", "https://[::1]:1")))
    lookalikes = ("http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://127.0.0.1@evil.example")
    assert not any(map(is_loopback, (*lookalikes, "http://2130706433", "http://127.1", "null")))
