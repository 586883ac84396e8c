"""What every dialect says in the metadata of an answer: who gave it, how the caches took part, what the checks said."""

from millrace.funnel.response_log import Ended
from millrace.types import Request


def metadata_of(request: Request, ended: Ended) -> dict[str, str]:
    """Return the request's metadata with the marks of its end."""
    marks = {
        "millrace.cache": ended.cache.value,
        "millrace.route": ended.source.value if ended.source else "",
        "millrace.check": ended.check or "",
        "millrace.trimmed_tokens": str(ended.trimmed_tokens or ""),
    }
    return request.metadata | {name: mark for name, mark in marks.items() if mark}
