"""What every dialect says of an answer: source, caches, check, failures, tier, what was cut or not checked."""

from millrace.funnel.facts import Ended
from millrace.types import Request, Source
from millrace.wire.options import MAX_METADATA_VALUE


def metadata_of(request: Request, ended: Ended) -> dict[str, str]:
    """Return the request's metadata and Millrace's own, without empty values."""
    cap = ended.statement.max_output_tokens  # the operator's; a client knows its own
    added = {
        "millrace.cache": ended.cache.value,
        "millrace.route": ended.source.value if ended.source else "",
        "millrace.entry_id": ended.entry_id or "",
        "millrace.age_s": "" if ended.age_s is None else f"{ended.age_s:.0f}",
        "millrace.check": ended.check or "",
        "millrace.failed": "; ".join(failure.message for failure in ended.failed)[:MAX_METADATA_VALUE],
        "millrace.unchecked": ", ".join(request.unchecked)[:MAX_METADATA_VALUE],
        "millrace.session": shown_session(request),
        "millrace.notes": "; ".join((*request.not_passed_on, *ended.statement.notes))[:MAX_METADATA_VALUE],
        "millrace.trimmed_tokens": str(ended.trimmed_tokens or ""),
        "millrace.max_output_tokens": str(cap or "") if ended.reason == "max_output_tokens" else "",
    }
    return request.metadata | {name: value for name, value in added.items() if value}


def shown_session(request: Request) -> str:
    """Return the session that a request names or continues; empty if it is one of its own."""
    return "" if request.session == request.id else request.session[:MAX_METADATA_VALUE]


def service_tier_of(request: Request, ended: Ended) -> str:
    """Return the service tier that the provider used: `default` where another one was asked for, but not sent.

    Empty if nobody named one, and for an answer from a cache.
    """
    if ended.source in (None, Source.CACHE):
        return ""
    return ended.statement.service_tier or ("default" if request.prompt.service_tier else "")
