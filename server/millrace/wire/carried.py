"""What a provider wants back of an answer, as the `encrypted_content` of a reasoning item carries it.

Its own fields beside the answer, and sealed blocks. The Responses API has no other place for them. Its clients send
this field back as it is, and those that keep their conversations themselves drop a reasoning item without it.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from millrace.errors import MillraceError
from millrace.types import Api, Sealed
from millrace.wire import reading

FIELD = "encrypted_content"  # its name; beside a message of chat completions too, for sealed blocks
PREFIX = "mr1."  # what has another prefix was not written here, and is ignored


class Block(Struct, omit_defaults=True, frozen=True):
    """A sealed block. Its place counts from that of the reasoning item, so it may be negative."""

    api: Api
    fields: dict[str, Any]
    parts: int = 0
    calls: int = 0
    maker: str = ""


class Carried(Struct, omit_defaults=True, frozen=True):
    """The fields beside the message, and beside each tool call, by its id; and the sealed blocks."""

    message: dict[str, Any] = {}
    calls: dict[str, dict[str, Any]] = {}
    sealed: list[Block] = []

    @property
    def in_order(self) -> tuple[Sealed, ...]:
        """The sealed blocks. Without a type is one that stands for an item of its own, and has nothing but its id."""
        return tuple(
            Sealed(api=one.api, fields=one.fields, parts_before=one.parts, calls_before=one.calls, maker=one.maker)
            for one in self.sealed
            if isinstance(one.fields.get("type", one.fields.get("id")), str)  # nothing else is one
        )

    @property
    def blocks(self) -> tuple[Sealed, ...]:
        """The sealed blocks that are whole."""
        return tuple(one for one in self.in_order if one.kind)


NOTHING = Carried()


def write(message: Mapping[str, Any], calls: Mapping[str, dict[str, Any]], sealed: Iterable[Sealed] = ()) -> str:
    """Return the fields and blocks as one word."""
    blocks = [Block(one.api, one.fields, one.parts_before, one.calls_before, one.maker) for one in sealed]
    carried = Carried(dict(message), {id_: own_fields for id_, own_fields in calls.items() if own_fields}, blocks)
    return PREFIX + urlsafe_b64encode(msgspec.json.encode(carried)).decode()


def is_foreign(given: str | None) -> bool:
    """Whether a word was written elsewhere."""
    return bool(given) and not str(given).startswith(PREFIX)


def read(given: str | None) -> Carried:
    """Return what a word carries; nothing if it was written elsewhere, or is damaged or nested too deep."""
    if not given or is_foreign(given):
        return NOTHING
    try:
        fields = reading.decode(urlsafe_b64decode(given.removeprefix(PREFIX).encode()), FIELD)
        return msgspec.convert(fields, Carried)
    except (binascii.Error, ValueError, msgspec.ValidationError, MillraceError):
        return NOTHING
