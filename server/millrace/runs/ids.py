"""Ids of responses: 128 random bits each, or 96 behind the place of the process that has it."""

import secrets
from collections.abc import Iterator

_PREFIX = "resp_"
_BYTES = 16  # of an id
_AT_ONCE = 256  # ids: asking the system for each one takes longer than all else about it


def response_id(place: str = "") -> str:
    """Return an id that nobody can guess. It begins with a place, if there is one."""
    made = next(_new_ids)
    return f"{_PREFIX}{place}{made[len(_PREFIX) + len(place) :]}" if place else made


def _ids() -> Iterator[str]:
    while True:
        random = secrets.token_hex(_BYTES * _AT_ONCE)
        for at in range(0, len(random), 2 * _BYTES):
            yield _PREFIX + random[at : at + 2 * _BYTES]


_new_ids = _ids()
