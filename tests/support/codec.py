"""A codec whose frames can be read: `3:words` for words, `3<name>` for an event `("name", ...)`."""

from typing import Any

from millrace.errors import MillraceError


class PlainCodec:
    """Writes the number of an event before it."""

    keep_alive = b""

    def delta(self, text: str, number: int) -> bytes:
        return f"{number}:{text}".encode()

    def event(self, event: Any, number: int) -> bytes:
        return f"{number}<{event[0]}>".encode()

    def failure(self, error: MillraceError) -> bytes:
        return f"!{error.code}".encode()
