"""Calls of model providers."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol

from millrace.memory import Hold
from millrace.types import Aside, Call, Embedded, Finish, Usage

Sink = Callable[[list[str]], None]  # receives the text deltas of one read; must not raise


class Reading(Protocol):
    """An answer that is being read. Text deltas go to `sink` and other deltas to `aside`, synchronously."""

    sink: Sink
    aside: Callable[[Aside], None]  # receives one delta that is not text, in order with the text; must not raise

    def pause(self) -> None:
        """Stop reading until `resume`."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...


class Attempt(Reading, Protocol):
    """One upstream call that is being read."""

    on_begin: Callable[[], None]  # called once, before the first delta that is more than white space; must not raise
    done: asyncio.Future[Finish]  # fails with UpstreamError
    parts: list[str]  # all text deltas so far
    asides: list[Aside]  # all other deltas so far

    @property
    def sent(self) -> bool:
        """Whether the request has been sent; before that the provider charges nothing."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The usage as the provider reported it at the end; None until then."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """How the call differs from what was asked."""
        ...

    @property
    def retried_after(self) -> str:
        """Why it was tried once more; empty if it was not."""
        ...

    @property
    def input_usage(self) -> Usage | None:
        """The input as the provider has reported it, which some do at the beginning; None until then."""
        ...

    @property
    def service_tier(self) -> str:
        """The service tier that the provider reports, until then the one asked for; empty where nobody names one."""
        ...

    def abort(self) -> None:
        """Close the socket at once and cancel `done`, if the call has not ended. Idempotent.

        Must not wait: the socket is closed within 250 ms of a cancel (PROTOCOL.md, What always holds, 7).
        """
        ...

    def limit(self, output_tokens: int) -> None:
        """Cut the answer from now on at so many tokens, as its model counts them; the last limit holds."""
        ...


class Upstream(Protocol):
    """The API of a model provider."""

    def open(self, call: Call) -> Attempt:
        """Start a call. Returns at once; `sink` is not called before the caller next awaits."""
        ...


class Said:
    """A whole answer that a provider has given already, in a batch of its own: the next call of its model gets it."""

    def __init__(self, model: str, body: bytes) -> None:
        self.model = model
        self._body: bytes | None = body

    @property
    def is_taken(self) -> bool:
        """Whether a call has got it."""
        return self._body is None

    def is_for(self, model: str) -> bool:
        """Whether the next call of a model gets it."""
        return model == self.model and not self.is_taken

    def take(self, model: str) -> bytes | None:
        """Return the answer if it is of a model; once, for another call wants another answer."""
        body = None
        if model == self.model:
            body, self._body = self._body, None
        return body


said: ContextVar[Said | None] = ContextVar("said", default=None)  # of the request whose task this is


class EmbeddingsCall(Protocol):
    """One call for embeddings."""

    sent: bool  # the request has been sent; before that the provider charges nothing
    done: asyncio.Future[Embedded]  # fails with UpstreamError; cancelling it closes the socket


class EmbeddingsUpstream(Protocol):
    """The API of a provider of embeddings."""

    def open(self, body: bytes, held: Hold, traceparent: str = "", tracestate: str = "") -> EmbeddingsCall:
        """Start a call with a body in the provider's form. What it has read is counted in `held`.

        The last two tell the provider of the trace that it belongs to.
        """
        ...
