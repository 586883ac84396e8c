"""Ids of responses: 128 random bits each."""

import secrets

_BYTES = 16  # of an id
_AT_ONCE = 256  # ids: asking the system for each one takes longer than all else about it

_hexadecimal = ""


def response_id() -> str:
    """Return an id that nobody can guess."""
    global _hexadecimal  # noqa: PLW0603 - of the process, and used by the event loop's thread alone
    if not _hexadecimal:
        _hexadecimal = secrets.token_hex(_BYTES * _AT_ONCE)
    own, _hexadecimal = _hexadecimal[: 2 * _BYTES], _hexadecimal[2 * _BYTES :]
    return "resp_" + own
