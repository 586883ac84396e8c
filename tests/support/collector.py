"""A collector of OpenTelemetry: it takes what is sent over OTLP and HTTP, as protobuf, and keeps it."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.waiting import PATIENCE_S

SERVER, CLIENT, FAILED = 2, 3, 2  # kinds and the status, as OTLP numbers them


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One span as it came. Times are seconds since 1970."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    start: float
    end: float
    status: int
    attributes: dict[str, Any]
    events: dict[str, dict[str, Any]]
    resource: dict[str, Any]


@dataclass(slots=True)
class Collector:
    """What came, in order."""

    url: str = ""
    spans: list[Received] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)  # the last state of each, by name
    requests: int = 0
    heads: list[Any] = field(default_factory=list)  # their headers
    status: int = 200  # that it answers with
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, spans: int) -> list[Received]:
        """Wait for so many spans; return all of them."""
        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(lambda: len(self.spans) >= spans)
        return self.spans

    async def traces(self, request: web.Request) -> web.Response:
        """`POST /v1/traces`."""
        self.requests += 1
        self.heads.append(request.headers)
        sent = ExportTraceServiceRequest()
        sent.ParseFromString(await _body(request))
        if self.status == web.HTTPOk.status_code:
            for of_resource in sent.resource_spans:
                resource = _attributes(of_resource.resource.attributes)
                for scope in of_resource.scope_spans:
                    self.spans += [_received(span, resource) for span in scope.spans]
        async with self._came:
            self._came.notify_all()
        return web.Response(status=self.status)

    async def take_metrics(self, request: web.Request) -> web.Response:
        """`POST /v1/metrics`."""
        sent = ExportMetricsServiceRequest()
        sent.ParseFromString(await _body(request))
        for of_resource in sent.resource_metrics:
            for scope in of_resource.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}
        return web.Response()


async def _body(request: web.Request) -> bytes:
    body = await request.read()
    return gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body


def _received(span: Any, resource: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        trace_state=span.trace_state,
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        status=span.status.code,
        attributes=_attributes(span.attributes),
        events={event.name: _attributes(event.attributes) for event in span.events},
        resource=resource,
    )


def _attributes(given: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in given}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Run one on a free port."""
    collector = Collector()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", collector.traces)
    app.router.add_post("/v1/metrics", collector.take_metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()
