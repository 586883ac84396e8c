"""What every dialect says of an answer: source, caches, check, failures, tier, what was cut or not checked."""

from millrace.funnel.facts import Ended
from millrace.types import Request, Source
from millrace.wire.options import MAX_METADATA_VALUE


def metadata_of(request: Request, ended: Ended) -> dict[str, str]:
    """Return the request's metadata and Millrace's own, without empty values."""
    statement = ended.statement
    added = {**request.metadata, "millrace.cache": ended.cache.value}
    if ended.source:
        added["millrace.route"] = ended.source.value
    if ended.entry_id:
        added["millrace.entry_id"] = ended.entry_id
    if ended.age_s is not None:
        added["millrace.age_s"] = f"{ended.age_s:.0f}"
    if ended.check:
        added["millrace.check"] = ended.check
    if ended.failed:
        added["millrace.failed"] = "; ".join([failure.message for failure in ended.failed])[:MAX_METADATA_VALUE]
    if request.unchecked:
        added["millrace.unchecked"] = ", ".join(request.unchecked)[:MAX_METADATA_VALUE]
    if session := shown_session(request):
        added["millrace.session"] = session
    if notes := (*request.not_passed_on, *statement.notes):
        added["millrace.notes"] = "; ".join(notes)[:MAX_METADATA_VALUE]
    if request.budget is not None:
        added["millrace.budget"] = f"{request.budget.step}: {request.budget.said}"
    if ended.trimmed_tokens:
        added["millrace.trimmed_tokens"] = str(ended.trimmed_tokens)
    if statement.max_output_tokens and ended.reason == "max_output_tokens":  # the operator's; a client knows its own
        added["millrace.max_output_tokens"] = str(statement.max_output_tokens)
    return added


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
