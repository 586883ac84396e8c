"""Sends spans and metrics to a collector of OpenTelemetry, over OTLP and HTTP. Needs the extra `otel`.

Nothing of it is on the path of a request: a row that has ended is put into a queue, and a thread makes spans of it,
adds it to the metrics, and sends both. What the collector does not take is tried again for some seconds, then lost.
"""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from random import random

from msgspec import Struct
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from millrace import __version__, log
from millrace.telemetry import families as the
from millrace.telemetry.figures import Figures, Providers
from millrace.telemetry.instruments import Instruments
from millrace.telemetry.spans import Span, spans_of
from millrace.types import SAMPLED, Content, Entry, Trace, new_trace

SEND_S = 1.0  # between two looks at the queue
METRICS_S = 15.0  # between two sends of all metrics
MOST_WAITING = 8192  # requests; what ends while so many wait is not sent
MOST_CONTENT = 64 * 2**20  # bytes of prompts that wait
SPANS = 512  # that are sent at once
EXPORT_S = 3.0  # for one of them, tries included


class Sending(Struct, frozen=True, kw_only=True):
    """What is sent, and where."""

    endpoint: str
    share: float  # of requests that are recorded, of those whose clients name no trace
    metrics: bool
    prompts: bool


class Tracing:
    """Decides which requests are recorded, and sends what has become of them."""

    def __init__(self, sending: Sending, figures: Figures, providers: Providers, instance: str) -> None:
        self._sending = sending
        self._figures = figures
        self._providers = providers
        self._waiting: deque[Entry] = deque()
        self._queued_bytes = self._taken_bytes = 0  # of prompts and answers; each is counted on one thread
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(instance,), name="millrace-traces", daemon=True)

    def traced(self, trace: Trace | None) -> Trace | None:
        """Return the trace of a request, with a span of its own if it is recorded: as its client says, else by lot."""
        if trace is None:
            if random() >= self._sending.share:  # the lot
                return None
            trace = new_trace()
        elif trace.flags & SAMPLED:
            trace = trace.recorded()
        else:
            return trace
        return trace.holding(Content()) if self._sending.prompts else trace

    def settled(self, entry: Entry) -> None:
        """Queue a request that has ended."""
        is_recorded = entry.trace is not None and bool(entry.trace.span_id)
        if not (is_recorded or self._sending.metrics):
            return
        is_lost = len(self._waiting) >= MOST_WAITING or self._queued_bytes - self._taken_bytes > MOST_CONTENT
        if is_recorded:
            self._figures.process.count(the.TRACED, ("dropped" if is_lost else "queued",))
        if not is_lost:
            self._queued_bytes += _size(entry)
            self._waiting.append(entry)

    async def close(self) -> None:
        """Send what waits; wait some seconds for that."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 3 * EXPORT_S)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def _run(self, instance: str) -> None:
        try:
            sender = _Sender(self._sending, self._providers, instance)
        except Exception as error:
            log.get().error("traces are not sent", exc_info=error)
            return
        is_last = False
        while not is_last:
            is_last = self._stop.wait(SEND_S)
            try:
                sender.send(self._taken(), is_last=is_last)
            except Exception as error:  # the next ones may be sent
                log.get().error("traces not sent", exc_info=error)
        sender.close()

    def _taken(self) -> Iterator[Entry]:
        while self._waiting:
            entry = self._waiting.popleft()
            self._taken_bytes += _size(entry)
            yield entry


def _size(entry: Entry) -> int:
    content = None if entry.trace is None else entry.trace.content
    if content is None:
        return 0
    return len(content.answer) + (0 if content.prompt is None else content.prompt.memory_bytes)


class _Sender:
    """The SDK of OpenTelemetry, on one thread."""

    def __init__(self, sending: Sending, providers: Providers, instance: str) -> None:
        _silence()
        self._url = url = sending.endpoint.rstrip("/")
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "millrace"}
        resource = Resource.create(named | {"service.version": __version__, "service.instance.id": instance})
        self._providers = providers
        self._ids, self._made = _GivenIds(), _Made()
        self._exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=EXPORT_S)
        tracing = TracerProvider(sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        tracing.add_span_processor(self._made)
        self._tracer = tracing.get_tracer("millrace", __version__)
        self._metrics: Instruments | None = None
        self._reader: PeriodicExportingMetricReader | None = None
        self._metrics_at = time.monotonic()
        if sending.metrics:
            exporter = OTLPMetricExporter(endpoint=f"{url}/v1/metrics", timeout=EXPORT_S)
            self._reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
            metering = MeterProvider([self._reader], resource=resource, shutdown_on_exit=False)
            self._metrics = Instruments(metering.get_meter("millrace", __version__))

    def send(self, entries: Iterator[Entry], *, is_last: bool) -> None:
        """Send what has ended, and the metrics if they are due."""
        for entry in entries:
            providers = self._providers()
            if self._metrics is not None:
                self._metrics.settled(entry, providers)
            if entry.trace is not None and entry.trace.span_id:
                self._make(entry.trace, spans_of(entry, providers))
            if len(self._made.spans) >= SPANS:
                self._send_spans()
        if self._made.spans:
            self._send_spans()
        now = time.monotonic()
        if self._reader is not None and (is_last or now - self._metrics_at >= METRICS_S):
            self._metrics_at = now
            self._reader.collect()

    def close(self) -> None:
        """Give up what is not sent."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        if self._reader is not None:
            self._reader.shutdown()

    def _send_spans(self) -> None:
        spans, self._made.spans = self._made.spans, []
        if self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            log.get().warning("traces not sent: the collector did not take them", collector=self._url, spans=len(spans))

    def _make(self, trace: Trace, spans: list[Span]) -> None:
        own, *calls = spans
        self._ids.trace_id = int(trace.trace_id, 16)
        context = Context()
        if own.parent_id:
            parent = SpanContext(
                self._ids.trace_id,
                int(own.parent_id, 16),
                is_remote=True,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
                trace_state=TraceState.from_header([trace.state]) if trace.state else TraceState(),
            )
            context = set_span_in_context(NonRecordingSpan(parent), context)
        with self._span(own, context) as within:
            for call in calls:
                with self._span(call, within):
                    pass

    @contextmanager
    def _span(self, made: Span, context: Context) -> Iterator[Context]:
        self._ids.span_id = int(made.span_id, 16)
        kind = SpanKind.CLIENT if made.is_call else SpanKind.SERVER
        span = self._tracer.start_span(made.name, context, kind, made.attributes, start_time=made.start)
        for name, at, attributes in made.events:
            span.add_event(name, attributes, at)
        if made.error:
            span.set_status(StatusCode.ERROR, made.error)
        yield set_span_in_context(span, context)
        span.end(max(made.start, made.end))


class _GivenIds(IdGenerator):
    """Ids that were given before, since providers have been told of them."""

    trace_id = span_id = 0

    def generate_span_id(self) -> int:
        return self.span_id

    def generate_trace_id(self) -> int:
        return self.trace_id


class _Made(SpanProcessor):
    """Keeps the spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _silence() -> None:
    """Keep the SDK's own loggers quiet: what it fails to send is told here, in a line like all others."""
    quiet = logging.getLogger("opentelemetry")
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
