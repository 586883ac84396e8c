"""The metadata that every dialect adds to an answer: its source, its cache outcome, its check, its trimmed tokens."""

from millrace.funnel.response_log import Ended
from millrace.types import Request


def metadata_of(request: Request, ended: Ended) -> dict[str, str]:
    """Return the request's metadata and Millrace's own, without empty values."""
    added = {
        "millrace.cache": ended.cache.value,
        "millrace.route": ended.source.value if ended.source else "",
        "millrace.check": ended.check or "",
        "millrace.trimmed_tokens": str(ended.trimmed_tokens or ""),
    }
    return request.metadata | {name: value for name, value in added.items() if value}
