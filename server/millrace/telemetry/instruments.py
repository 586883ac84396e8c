"""The metrics of OpenTelemetry's conventions for generative AI, from the rows of requests that have ended."""

from collections.abc import Mapping

from opentelemetry.metrics import Histogram, Meter

from millrace.telemetry import families as the
from millrace.telemetry.figures import NONE, OWN_NAME, answered_by, answering_call, reason_of
from millrace.telemetry.numbers import OTHER
from millrace.types import EMBEDDINGS, EVIDENCE_TENANT, Charge, Entry, Outcome, Status

_OF_CALLS = "gen_ai.client"
_OF_REQUESTS = "gen_ai.server"


class Instruments:
    """Adds requests to the metrics of a meter."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, family: the.Family) -> Histogram:
            return meter.create_histogram(name, "s", family.meaning, explicit_bucket_boundaries_advisory=family.bounds)

        self._request = seconds(f"{_OF_REQUESTS}.request.duration", the.REQUEST_SECONDS)
        self._first_token = seconds(f"{_OF_REQUESTS}.time_to_first_token", the.FIRST_TOKEN_SECONDS)
        self._gap = seconds(f"{_OF_REQUESTS}.time_per_output_token", the.TOKEN_GAP_SECONDS)
        self._call = seconds(f"{_OF_CALLS}.operation.duration", the.CALL_SECONDS)
        self._first_chunk = seconds(f"{_OF_CALLS}.operation.time_to_first_chunk", the.FIRST_CHUNK_SECONDS)
        self._tokens = meter.create_histogram(
            f"{_OF_CALLS}.token.usage",
            "{token}",
            the.CALL_TOKENS.meaning,
            explicit_bucket_boundaries_advisory=the.TOKENS,
        )
        self._cost = meter.create_counter("millrace.cost", "USD", the.SPENT.meaning)
        self._saved = meter.create_up_down_counter(
            "millrace.saved", "USD", "What requests would have cost on the large model, less what they have cost."
        )

    def settled(self, entry: Entry, providers: Mapping[str, str]) -> None:
        """Add a request that has ended."""
        operation = EMBEDDINGS if entry.strategy == EMBEDDINGS else "chat"
        for charge in entry.statement.charges:
            self._add_call(charge, operation, providers.get(charge.model, OTHER))
        if entry.tenant == EVIDENCE_TENANT:
            return
        call, ttft_ms, usage = answering_call(entry), entry.ttft_ms, entry.statement.usage
        model = NONE if call is None else call.model
        labels = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": OWN_NAME,
            "gen_ai.request.model": model if entry.shape is None else entry.shape.model,
            "gen_ai.response.model": model,
            "millrace.answered_by": answered_by(entry),
        }
        self._saved.add(float(entry.statement.saved), {"millrace.answered_by": answered_by(entry)})
        failed = {"error.type": reason_of(entry.code or OTHER)} if entry.status is Status.FAILED else {}
        self._request.record(entry.latency_ms / 1000, labels | failed)
        if ttft_ms is None:
            return
        self._first_token.record(ttft_ms / 1000, labels)
        if (gaps := usage.output_tokens - 1) > 0 and entry.latency_ms > ttft_ms and call is not None:
            self._gap.record((entry.latency_ms - ttft_ms) / 1000 / gaps, labels)

    def _add_call(self, charge: Charge, operation: str, provider: str) -> None:
        labels = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": charge.model,
        }
        for kind, tokens in (("input", charge.usage.input_tokens), ("output", charge.usage.output_tokens)):
            if tokens:
                self._tokens.record(tokens, labels | {"gen_ai.token.type": kind})
        self._cost.add(float(charge.cost), labels | {"millrace.tier": str(charge.tier)})
        if charge.began_at is None:
            return
        if charge.ended_at is not None:
            failed = {"error.type": charge.outcome.value} if charge.outcome is Outcome.FAILED else {}
            self._call.record(charge.ended_at - charge.began_at, labels | failed)
        if charge.spoke_at is not None:
            self._first_chunk.record(charge.spoke_at - charge.began_at, labels)
