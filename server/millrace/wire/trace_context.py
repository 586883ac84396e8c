"""Reads `traceparent` and `tracestate` (W3C Trace Context). What is invalid is left out, never refused.

A client gives them as headers: of an HTTP request, or of the upgrade to a WebSocket, for all requests on it. A request
of its own may have them in `client_metadata`, also under the names that Codex gives them there, or in `metadata` as
`millrace.traceparent` and `millrace.tracestate`, for SDKs that set no header.
"""

import re
from collections.abc import Mapping
from typing import Any

from millrace.types import Trace

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"  # the headers
MAX_STATE = 512  # characters of tracestate; a longer one is not passed on

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(r"[ -~]+")  # printable ASCII
_PLACES = (  # of a request's fields: the object, and what the two are called there
    ("client_metadata", (TRACEPARENT, TRACESTATE)),
    ("client_metadata", ("ws_request_header_traceparent", "ws_request_header_tracestate")),
    ("metadata", ("millrace.traceparent", "millrace.tracestate")),
)


def trace_of(fields: Mapping[str, Any], headers: Mapping[str, str]) -> Trace | None:
    """Return the trace that a request belongs to; None if its client names none. `headers` have lower-case names."""
    for place, (parent, state) in _PLACES:
        given = fields.get(place)
        if isinstance(given, dict) and parent in given:
            return read(given[parent], given.get(state))
    return read(headers.get(TRACEPARENT), headers.get(TRACESTATE)) if headers else None


def read(traceparent: Any, tracestate: Any = None) -> Trace | None:
    """Return what the two headers say; None if the first is invalid or missing."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if isinstance(traceparent, str) else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not (int(trace_id, 16) and int(parent_id, 16)):
        return None
    state = tracestate.strip() if isinstance(tracestate, str) else ""
    if len(state) > MAX_STATE or not _STATE.fullmatch(state):
        state = ""
    return Trace(trace_id=trace_id, parent_id=parent_id, flags=int(flags, 16), state=state)
