"""The headers of a request, or of an upgrade, that say to which trace it belongs."""

from starlette.datastructures import Headers

from millrace.wire.trace_context import TRACEPARENT, TRACESTATE


def trace_headers(headers: Headers) -> dict[str, str]:
    """Return them, as one each; nothing where there are two of the first, so that none of them counts."""
    if len(parents := headers.getlist(TRACEPARENT)) != 1:
        return {}
    return {TRACEPARENT: parents[0], TRACESTATE: ",".join(headers.getlist(TRACESTATE))}
