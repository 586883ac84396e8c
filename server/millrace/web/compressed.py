"""Bodies of requests that come compressed (`Content-Encoding`): inflated within bounds, where that delays nobody."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from millrace.errors import MillraceError
from millrace.funnel.offload import VERY_LONG, in_thread
from millrace.wire.reading import LONG

T = TypeVar("T")

_AUTO = 32 + zlib.MAX_WBITS  # gzip, or zlib's own format, by its header
_BITS = {"gzip": _AUTO, "x-gzip": _AUTO, "deflate": _AUTO}
_RAW = -zlib.MAX_WBITS  # deflate without a header, as some clients send it
_PLAIN = ("", "identity")


def check_encoding(encoding: str) -> str:
    """Return the encoding of a body in lower case; raise `unsupported_encoding` if it is none of ours."""
    encoding = encoding.strip().lower()
    if encoding not in _PLAIN and encoding not in _BITS:
        message = f"Content-Encoding: {encoding[:40]!r} is not supported; send {' or '.join(_BITS)}, or no encoding"
        raise MillraceError("unsupported_encoding", message, param="Content-Encoding")
    return encoding


async def read(body: bytes, encoding: str, limit: int, work: Callable[[bytes], T]) -> T:
    """Return what `work` makes of a body as it was before its encoding: at once if it is short, else in a thread.

    What it inflates to is not known before. So it is inflated as far as each place allows, the loop first, and only one
    long body at a time: `work` is called in the same thread. Raises `message_too_big` above `limit` bytes, and
    `invalid_request` if it cannot be inflated.
    """
    if encoding in _PLAIN:
        return await in_thread(len(body), partial(work, body)) if len(body) > LONG else work(body)

    def within(most: int) -> tuple[T] | None:
        plain = _inflated(body, encoding, most)
        return None if plain is None else (work(plain),)

    for most in (*(most for most in (LONG, VERY_LONG) if len(body) <= most < limit), limit):
        done = within(most) if most <= LONG else await in_thread(most, partial(within, most))
        if done is not None:
            return done[0]
    raise MillraceError("message_too_big", f"the body inflates to more than {limit} bytes")


def _inflated(body: bytes, encoding: str, most: int) -> bytes | None:
    """Return the inflated body; None if it is longer than so many bytes."""
    try:
        return _inflated_as(_BITS[encoding], body, most)
    except zlib.error as error:
        if encoding == "deflate":
            try:
                return _inflated_as(_RAW, body, most)
            except zlib.error:
                pass
        raise _unreadable(encoding, str(error)) from None


def _inflated_as(bits: int, body: bytes, most: int) -> bytes | None:
    inflater = zlib.decompressobj(bits)
    plain = inflater.decompress(body, most + 1)
    if len(plain) > most:
        return None
    if not inflater.eof:
        raise zlib.error("it ends too early")
    if inflater.unused_data:
        raise zlib.error("something follows its end")
    return plain


def _unreadable(encoding: str, why: str) -> MillraceError:
    return MillraceError("invalid_request", f"the body is not {encoding}: {why}", param="Content-Encoding")
