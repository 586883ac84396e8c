"""A row of the ledger in words: who answered and why, what each stage decided, and what it cost."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from millrace.wire.ledger import LedgerEntry


def who(row: LedgerEntry) -> str:
    """Return who answered, or why nobody did."""
    if row.status in ("failed", "cancelled"):
        return f"{row.status}: {row.code}" if row.code and row.code != row.status else row.status
    if row.status in ("killed", "open"):
        return row.status
    if row.cache in ("exact", "semantic"):
        return f"{row.cache} cache"
    named = row.model or row.source or "nobody"
    named = f"joined {named}" if row.cache == "joined" else named
    return f"{named}, cut" if row.status == "incomplete" else named


def why(row: LedgerEntry) -> str:
    """Return why it was answered as it was, and what happened on the way."""
    tried = "" if row.failed_check is None else f"{row.failed_check} failed"
    cut = row.code if row.status == "incomplete" and row.code else ""
    return "; ".join(filter(None, (row.reason, tried, cut)))


def cents(dollars: Decimal) -> str:
    """Return an amount in cents, to a ten thousandth of one."""
    return f"{dollars * 100:.4f}"


def whole(length_ms: float | None) -> str:
    """Return milliseconds without a fraction; a dash if they are not known."""
    return "–" if length_ms is None else f"{length_ms:,.0f}"


def at(seconds: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def facts(row: LedgerEntry) -> Iterator[tuple[str, str]]:
    """Yield the name of each thing that is known of a request, and what it is; empty if there was none."""
    yield from (("tenant", row.tenant), ("key", row.key_id), ("user", row.user), ("tag", row.tag))
    yield "session", "" if row.session == row.id else row.session
    yield "batch", row.batch
    yield "asked", _asked(row)
    yield "trimmed", _trimmed(row)
    yield "exact cache", "answered it" if row.cache == "exact" else ""
    yield "semantic cache", _semantic(row)
    yield "joined", "an identical request that ran already; who began it pays" if row.cache == "joined" else ""
    yield "router", _router(row)
    yield "strategy", row.strategy
    yield "because", row.reason
    yield "failed check", row.failed_check or ""
    yield "answered by", who(row)
    yield "took", f"first word {whole(row.ttft_ms)} ms, whole {whole(row.latency_ms)} ms" if row.latency_ms else ""
    yield "from entry", row.entry_id
    yield "kept as entry", row.stored_id


def _asked(row: LedgerEntry) -> str:
    shape = row.shape
    if shape is None:
        return ""
    count = len(shape["messages"]) + shape.get("earlier", 0)
    sizes = ", ".join(f"{role} {size:,}" for role, size in shape["messages"])
    earlier = f"{shape['earlier']} earlier ones {shape['earlier_size']:,}, " if shape.get("earlier") else ""
    parts = [f"{count} message{'s' * (count != 1)} ({earlier}{sizes} characters)"]
    if shape.get("context"):
        parts.append(f"context of {shape['context']:,} characters")
    if tools := shape.get("tools"):
        parts.append(f"{len(tools)} tool{'s' * (len(tools) != 1)} of {sum(tools):,} characters")
    said = {"messages", "earlier", "earlier_size", "context", "tools", "format_size", "cut", "model"}
    parts += [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in shape.items() if name not in said]
    return f"for {shape['model']}: {'; '.join(parts)}"


def _plain(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list | tuple) else str(value)


def _trimmed(row: LedgerEntry) -> str:
    if not row.trimmed_tokens:
        return ""
    cut = " and ".join((row.shape or {}).get("cut", ())) or "the prompt"
    return f"{row.trimmed_tokens:,} tokens of {cut}"


def _semantic(row: LedgerEntry) -> str:
    if row.story.hit:
        return f"answered it with {row.story.hit}"
    return f"served nothing: {row.story.missed}" if row.story.missed else ""


def _router(row: LedgerEntry) -> str:
    scores = row.story.scores
    if scores is None:
        return ""
    because = "" if scores.reason == row.reason else f"; {scores.reason}"
    against = "no score is enough" if scores.threshold is None else f"large from {scores.threshold:+.3f}"
    return f"{scores.tier} first: score {scores.score:+.3f}, {against}, from {scores.labels:,} labels{because}"


def verdicts(row: LedgerEntry) -> Iterator[tuple[str, str]]:
    """Yield whose answers the checks have judged, and what they say."""
    for verdict in row.story.verdicts:
        said = "passed" if verdict.check is None else f"failed {verdict.check}"
        yield f"the {verdict.tier} model's answer", f"{said}: {verdict.reason}" if verdict.reason else said


def bill(row: LedgerEntry) -> Iterator[tuple[str, str]]:
    """Yield what it has cost and saved."""
    parts = " + ".join(cents(call.cost_usd) for call in row.calls)
    total = f"{cents(row.cost_usd)} ¢"
    yield "cost", f"{parts} = {total}" if len(row.calls) > 1 else total
    if row.baseline is not None and row.status in ("completed", "incomplete"):
        would = cents(row.cost_usd + row.saved_usd)
        yield "saved", f"{cents(row.saved_usd)} ¢, of {would} ¢ that the large model would have cost untrimmed"
    yield "", "estimated in part: a provider has not reported its usage" if row.estimated else ""
