"""The spans of a request, from its row alone: one for the request, and one for each call of a model.

Their names and attributes are those of OpenTelemetry's conventions for generative AI; what these have no name for
begins with `millrace`. No text of a prompt or an answer is in them, unless the operator asks for it.
"""

import json
from collections.abc import Mapping

from msgspec import Struct, field

from millrace.telemetry.figures import OWN_NAME, answered_by, answering_call, escalation_of, reason_of
from millrace.telemetry.numbers import OTHER
from millrace.types import EMBEDDINGS, Charge, Content, Entry, Outcome, Status, Usage, new_span_id

Value = str | int | float | bool | list[str]
_FAILED = (Status.FAILED, Status.KILLED)
_MESSAGE = 32_768  # characters of one message that are shown


class Span(Struct, kw_only=True):
    """One span. Times are nanoseconds since 1970."""

    name: str
    span_id: str
    parent_id: str  # empty: it has none
    is_call: bool
    start: int
    end: int
    attributes: dict[str, Value]
    events: list[tuple[str, int, dict[str, Value]]] = field(default_factory=list)
    error: str = ""  # why it failed; empty: it did not


def spans_of(entry: Entry, providers: Mapping[str, str]) -> list[Span]:
    """Return the spans of a request that is recorded, its own first."""
    trace = entry.trace
    assert trace is not None, "it is recorded"
    own = _of_request(entry, trace.parent_id, trace.span_id)
    if trace.content is not None:
        own.attributes |= _text(trace.content)
    calls = [_of_call(entry, charge, own, providers) for charge in entry.statement.charges]
    for at, charge in enumerate(entry.statement.charges):
        if charge.outcome is Outcome.REVISED:
            after = entry.statement.charges[at + 1 :]
            told: dict[str, Value] = {"millrace.check": entry.check or "", "millrace.from_model": charge.model}
            told |= {"millrace.to_model": after[0].model} if after else {}
            own.events.append(("millrace.revised", calls[at].end, told))
    return [own, *calls]


def _of_request(entry: Entry, parent_id: str, span_id: str) -> Span:
    call, shape, statement = answering_call(entry), entry.shape, entry.statement
    operation, asked = _operation(entry), "" if shape is None else shape.model
    model = call.model if call is not None else ""
    start = int(entry.opened_at * 1e9)
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": OWN_NAME,
        "gen_ai.request.model": asked or model,
        "gen_ai.response.id": entry.request_id,
        **_tokens(statement.usage),
        "millrace.tenant": entry.tenant,
        "millrace.status": entry.status.value,
        "millrace.answered_by": answered_by(entry),
        "millrace.strategy": str(entry.strategy),
        "millrace.dialect": entry.dialect,
        "millrace.cost_usd": float(statement.cost),
        "millrace.saved_usd": float(statement.saved),
        "millrace.calls": len(statement.charges),
    }
    optional: dict[str, Value | None] = {
        "gen_ai.response.model": model or None,
        "gen_ai.conversation.id": entry.session if entry.session != entry.request_id else None,
        "gen_ai.response.time_to_first_chunk": None if entry.ttft_ms is None else entry.ttft_ms / 1000,
        "millrace.check": entry.check,
        "millrace.escalated_by": escalation_of(entry),
        "millrace.route": entry.story.route or None,
        "millrace.tag": entry.tag or None,
        "millrace.batch": entry.batch or None,
        "millrace.trimmed_tokens": entry.trimmed_tokens or None,
    }
    if shape is not None:
        optional |= {
            "gen_ai.output.type": "json" if shape.format not in ("", "text") else "text",
            "gen_ai.request.max_tokens": shape.max_output_tokens,
            "gen_ai.request.temperature": shape.temperature,
            "gen_ai.request.top_p": shape.top_p,
            "millrace.delivery": shape.delivery,
        }
    error = reason_of(entry.code or OTHER) if entry.status in _FAILED else ""
    optional["error.type"] = error or None
    attributes |= {name: value for name, value in optional.items() if value not in (None, "")}
    return Span(
        name=f"{operation} {asked or model}".strip(),
        span_id=span_id,
        parent_id=parent_id,
        is_call=False,
        start=start,
        end=start + int(entry.latency_ms * 1e6),
        attributes=attributes,
        error=error,
    )


def _of_call(entry: Entry, charge: Charge, own: Span, providers: Mapping[str, str]) -> Span:
    operation = _operation(entry)
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": providers.get(charge.model, OTHER),
        "gen_ai.request.model": charge.model,
        "gen_ai.response.model": charge.model,
        **_tokens(charge.usage),
        "millrace.cost_usd": float(charge.cost),
        "millrace.tier": str(charge.tier),
        "millrace.outcome": charge.outcome.value,
    }
    if charge.spoke_at is not None and charge.began_at is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = charge.spoke_at - charge.began_at
    if charge.usage.estimated:
        attributes["millrace.estimated"] = True
    if charge.deployment:
        attributes["millrace.deployment"] = charge.deployment
    if charge.service_tier:
        attributes["millrace.service_tier"] = charge.service_tier
    error = ""
    if charge.outcome is Outcome.FAILED:
        error = reason_of(dict(entry.story.failed).get(charge.model) or entry.code or OTHER)
        attributes["error.type"] = error
    return Span(
        name=f"{operation} {charge.model}",
        span_id=charge.span_id or new_span_id(),
        parent_id=own.span_id,
        is_call=True,
        start=_at(entry, charge.began_at, own.start),
        end=_at(entry, charge.ended_at, own.end),
        attributes=attributes,
        error=error,
    )


def _at(entry: Entry, moment: float | None, otherwise: int) -> int:
    """Return a moment of a call, which is on the process's clock; embeddings have none."""
    if moment is None or entry.began_at is None:
        return otherwise
    return int((entry.opened_at + moment - entry.began_at) * 1e9)


def _operation(entry: Entry) -> str:
    return EMBEDDINGS if entry.strategy == EMBEDDINGS else "chat"


def _tokens(usage: Usage) -> dict[str, int]:
    """Return how many there were of each kind; of the rare ones only if there were some."""
    rare = {
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        **{name: tokens for name, tokens in rare.items() if tokens},
    }


def _text(content: Content) -> dict[str, Value]:
    """Return what was asked and answered, as the conventions write it: JSON, since attributes are flat."""
    asked = [] if content.prompt is None else content.prompt.messages
    messages = [
        {"role": message.role, "parts": [_part(part) for part in message.parts if isinstance(part, str)]}
        for message in asked
    ]
    answer = [{"role": "assistant", "parts": [_part(content.answer)]}]
    return {"gen_ai.input.messages": json.dumps(messages), "gen_ai.output.messages": json.dumps(answer)}


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "content": text[:_MESSAGE]}
