"""A request to a provider and its response, whoever carries them: what the readers of answers know of HTTP."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

KERNEL_BYTES = 32 * 1024  # read ahead by the system: enough for 300 kB/s over a round trip of 0.1 s
READ_BYTES = 16 * 1024  # taken at once, about; then a pause is heeded
MAX_ERROR_BODY = 64 * 1024  # bytes of a refusal that are read
ERROR_BODY_S = 2.0  # to read them
TRANSIENT = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)

Take = Callable[[bytes], bool]  # takes a piece of a body; True if no more is wanted


class Traced(Protocol):
    """A call whose way over its connection is noted."""

    sent: bool  # its request has left
    is_reused: bool  # its connection has been used before


class ConnectError(Exception):
    """No connection could be made, in words for the operator."""

    def __init__(self, words: str, *, is_timeout: bool = False, may_pass: bool = False) -> None:
        super().__init__(words)
        self.is_timeout = is_timeout
        self.may_pass = may_pass  # soon; a second try may fare better


class ResponseError(Exception):
    """A response broke off, or cannot be read."""

    def __init__(self, words: str, *, is_readable: bool = True) -> None:
        super().__init__(words)
        self.is_readable = is_readable  # what came was HTTP


class Response(Protocol):
    """A response whose head has come."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by names in any case."""
        ...

    async def push(self, take: Take) -> None:
        """Push the body to a reader, until it has had enough or the body ends.

        Raises `ResponseError`, or what the reader raises.
        """
        ...

    async def finish(self, within_s: float) -> None:
        """Read the rest, which nobody gets, so that the connection can carry another request."""
        ...

    def pause(self) -> None:
        """Read no more; the provider has to wait. Idempotent."""
        ...

    def resume(self) -> None:
        """Read on. Idempotent."""
        ...

    def close(self) -> None:
        """Close the connection, unless the body has ended: then it is kept for another request. Idempotent."""
        ...


async def error_body(response: Response) -> bytes:
    """Return the body of an error response, until its end, a fault, or a bound of bytes or time."""
    body = bytearray()

    def take(chunk: bytes) -> bool:
        body.extend(chunk)
        return len(body) >= MAX_ERROR_BODY

    with suppress(ResponseError, TimeoutError):
        async with asyncio.timeout(ERROR_BODY_S):
            await response.push(take)
    return bytes(body[:MAX_ERROR_BODY])
