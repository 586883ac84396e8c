"""Which session a request names."""

from typing import Any

import pytest

from millrace.wire.sessions import MAX, naming, session_of

HEADERS = {"session-id": "h"}
CASES: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({}, {}, ""),
    ({"prompt_cache_key": "k", "metadata": {"user_id": "u"}}, HEADERS, "k"),
    ({"metadata": {"user_id": "u"}}, HEADERS, "h"),
    ({}, {"x-session-id": "x"}, "x"),
    ({}, {"x-claude-code-session-id": "c"}, "c"),
    ({"metadata": {"user_id": '{"device_id": "d", "session_id": "s"}'}}, {}, "s"),
    ({"metadata": {"user_id": "user_1_account__session_s-1"}}, {}, "s-1"),
    ({"metadata": {"user_id": "ann"}}, {}, "ann"),
    ({"metadata": {"user_id": '{"device_id": "d"}'}}, {}, ""),
    ({"client_metadata": {"session_id": "s", "thread_id": "t"}}, {}, "s"),
    ({"client_metadata": {"thread_id": "t"}}, {}, "t"),
    ({"prompt_cache_key": "", "metadata": None, "client_metadata": "?"}, {}, ""),
    ({"prompt_cache_key": 7, "metadata": {"user_id": 7}}, {}, ""),
    ({"prompt_cache_key": "k" * 500}, {}, "k" * MAX),
]


@pytest.mark.parametrize(("fields", "headers", "session"), CASES)
def test_the_first_that_is_there(fields: dict[str, Any], headers: dict[str, str], session: str) -> None:
    assert session_of(fields, headers) == session


def test_only_headers_that_name_one_are_kept() -> None:
    assert naming({"session-id": "h", "authorization": "Bearer secret", "x-session-id": ""}) == HEADERS
