"""Which session a request belongs to, as its client names it. Every dialect has the same rule.

The first of these that is there: `prompt_cache_key`; a header; `metadata.user_id`; `client_metadata`. What a client
writes for each session, and not for each user, is what counts: a `user_id` that is JSON has it as `session_id`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

MAX = 256  # characters of a session's name; of a longer one the beginning
HEADERS = ("session-id", "x-session-id", "x-claude-code-session-id")
_IN_METADATA = ("session_id", "thread_id")


def session_of(fields: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Return the name of the session; empty if the client names none. `headers` are found by names in lower case."""
    named: list[Any] = [fields.get("prompt_cache_key")]
    if headers:
        named += [headers.get(name) for name in HEADERS]
    if "metadata" in fields:
        named.append(_of_user(_get(fields["metadata"], "user_id")))
    if "client_metadata" in fields:
        named += [_get(fields["client_metadata"], name) for name in _IN_METADATA]
    for name in named:
        if isinstance(name, str) and name:
            return name[:MAX]
    return ""


def naming(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those headers that may name a session."""
    return {name: value for name in HEADERS if (value := headers.get(name))}


def _of_user(user_id: Any) -> Any:
    """Return what a user's id says of the session: `session_id` of JSON, what follows `session_`, or all of it."""
    if not isinstance(user_id, str):
        return None
    try:
        return _get(msgspec.json.decode(user_id), "session_id")
    except (msgspec.DecodeError, RecursionError):
        return user_id.rpartition("session_")[2] or user_id


def _get(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, dict) else None
