"""Trace context as W3C has it: the trace that a request belongs to, and what its calls tell providers of it."""

import random

from msgspec import Struct
from msgspec.structs import replace

from millrace.types.conversation import Prompt

SAMPLED = 0x01  # of the flags: who sent it records it
_SENT_ON = 0x03  # of the flags that are known: sampled, and that the id of the trace is random


class Content(Struct):
    """What was asked and answered, where the operator wants that in traces. It is filled in on the way."""

    prompt: Prompt | None = None
    answer: str = ""


class Trace(Struct, frozen=True, kw_only=True, gc=False):
    """The trace of one request. Ids are hexadecimal, in lower case."""

    trace_id: str  # 32 digits
    parent_id: str = ""  # of the client's span, 16 digits; empty: the trace begins with this request
    span_id: str = ""  # of the request's own span; empty: none is recorded
    flags: int = 0
    state: str = ""  # `tracestate`, which is passed on as it came
    content: Content | None = None  # None: it is not recorded

    @property
    def is_sampled(self) -> bool:
        """Whether the client records its part of it."""
        return bool(self.flags & SAMPLED)

    def recorded(self) -> "Trace":
        """Return it with a span of its own for the request."""
        return replace(self, span_id=new_span_id(), flags=self.flags & _SENT_ON)

    def holding(self, content: Content) -> "Trace":
        """Return it with a place for what was asked and answered."""
        return replace(self, content=content)

    def for_call(self) -> str:
        """Return `traceparent` for one call: with a span of its own, if spans are recorded, else as it came."""
        span_id = new_span_id() if self.span_id else self.parent_id
        return f"00-{self.trace_id}-{span_id}-{self.flags:02x}"


def span_of(traceparent: str) -> str:
    """Return the span that a `traceparent` made here names; empty for none."""
    return traceparent[36:52]


def new_trace() -> Trace:
    """Return a trace that begins here and is recorded."""
    return Trace(trace_id=f"{random.getrandbits(128) or 1:032x}", flags=SAMPLED).recorded()


def new_span_id() -> str:
    """Return an id for a span."""
    return f"{random.getrandbits(64) or 1:016x}"
