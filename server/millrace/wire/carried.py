"""A provider's own fields beside an answer, as the `encrypted_content` of a reasoning item carries them.

The Responses API has no other place for them. Its clients send this field back as it is, and those that keep their
conversations themselves drop a reasoning item without it.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

PREFIX = "mr1."  # what has another prefix was not written here, and is ignored


class Carried(Struct, omit_defaults=True, frozen=True):
    """The fields beside the message, and beside each tool call, by its id."""

    message: dict[str, Any] = {}
    calls: dict[str, dict[str, Any]] = {}


NOTHING = Carried()
_decoder = msgspec.json.Decoder(Carried)


def write(message: Mapping[str, Any], calls: Mapping[str, dict[str, Any]]) -> str:
    """Return the fields as one word."""
    carried = Carried(dict(message), {id_: own_fields for id_, own_fields in calls.items() if own_fields})
    return PREFIX + urlsafe_b64encode(msgspec.json.encode(carried)).decode()


def is_foreign(given: str | None) -> bool:
    """Whether a word was written elsewhere."""
    return bool(given) and not str(given).startswith(PREFIX)


def read(given: str | None) -> Carried:
    """Return what a word carries; nothing if it was written elsewhere, or is damaged."""
    if not given or is_foreign(given):
        return NOTHING
    try:
        return _decoder.decode(urlsafe_b64decode(given.removeprefix(PREFIX).encode()))
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return NOTHING
