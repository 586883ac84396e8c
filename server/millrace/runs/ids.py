"""Ids of responses: 128 random bits each."""

import secrets
from collections.abc import Iterator

_BYTES = 16  # of an id
_AT_ONCE = 256  # ids: asking the system for each one takes longer than all else about it


def response_id() -> str:
    """Return an id that nobody can guess."""
    return next(_new_ids)


def _ids() -> Iterator[str]:
    while True:
        random = secrets.token_hex(_BYTES * _AT_ONCE)
        for at in range(0, len(random), 2 * _BYTES):
            yield "resp_" + random[at : at + 2 * _BYTES]


_new_ids = _ids()
