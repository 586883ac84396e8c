"""Traces over OTLP: a real collector gets each call of a request as a span, with its tokens and its cost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from millrace import settings
from tests.support.chat_server import USAGE, ChatServer, chunk, completing
from tests.support.collector import CLIENT, FAILED, SERVER, Collector, Received, collecting
from tests.support.embeddings_server import MODEL, embeddings_server
from tests.support.logs import captured_logs
from tests.support.scraped import scraped
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import wire_client
from tests.wire.test_trace_context import HEADER, SPAN, TRACE

CHAT = "/v1/chat/completions"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running:
        yield running


@asynccontextmanager
async def traced(
    start: Start, collector: Collector, small_url: str = "", **traces: Any
) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    """A server that sends what it records to a collector, all of it by its end. `small_url`: of its small model."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["traces"] = {"endpoint": collector.url, **traces}
        if small_url:
            configuration["models"]["small"]["base_url"] = small_url

    async with start(change) as running, aiohttp.ClientSession(running.url) as http:
        yield running, http


async def ask(http: aiohttp.ClientSession, text: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    async with http.post("/v1/responses", json={"input": text, "model": "auto"} | fields, headers=headers) as answer:
        return await answer.json()


async def ended(http: aiohttp.ClientSession, request_id: str) -> dict[str, Any]:
    """Return the row of a request, once it is in the ledger as it ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get(f"/v1/ledger/{request_id}") as told:
                row: dict[str, Any] = await told.json()
            if row.get("status") not in (None, "open"):
                return row
            await asyncio.sleep(0.01)


def own(spans: list[Received]) -> Received:
    """Return the span of the only request."""
    (span,) = [span for span in spans if span.kind == SERVER]
    return span


async def test_an_escalated_request_shows_every_call_with_tokens_and_cost(start: Start, collector: Collector) -> None:
    async with traced(start, collector) as (_, http):
        answer = await ask(http, "What is a wheel? [weak]", {"traceparent": HEADER, "tracestate": "a=b"})
        row = await ended(http, answer["id"])
    spans = collector.spans
    assert len(spans) == 3
    request, calls = own(spans), sorted((span for span in spans if span.kind == CLIENT), key=lambda span: span.start)
    assert {span.trace_id for span in spans} == {TRACE}
    assert (request.parent_id, request.trace_state) == (SPAN, "a=b")
    assert {span.parent_id for span in calls} == {request.span_id}
    assert len({span.span_id for span in spans}) == 3
    assert request.attributes["gen_ai.response.id"] == answer["id"]
    assert request.attributes["millrace.escalated_by"] == "unsure"
    assert request.attributes["millrace.answered_by"] == "large"
    assert request.events == {
        "millrace.revised": {
            "millrace.check": "unsure",
            "millrace.from_model": "small-model",
            "millrace.to_model": "large-model",
        }
    }
    assert [span.name for span in calls] == ["chat small-model", "chat large-model"]
    for span, call in zip(calls, row["calls"], strict=True):
        assert span.attributes["gen_ai.operation.name"] == "chat"
        assert span.attributes["gen_ai.provider.name"] == "openai"
        assert span.attributes["gen_ai.request.model"] == call["model"]
        assert span.attributes["gen_ai.usage.input_tokens"] == call["input_tokens"]
        assert span.attributes["gen_ai.usage.output_tokens"] == call["output_tokens"]
        assert span.attributes["millrace.cost_usd"] == float(call["cost_usd"]) > 0
        assert span.attributes["millrace.outcome"] == call["outcome"]
        assert span.attributes["gen_ai.response.time_to_first_chunk"] * 1000 == pytest.approx(call["ttft_ms"], abs=0.1)
        assert (span.end - span.start) * 1000 == pytest.approx(call["lasted_ms"], abs=0.1)
        assert request.start <= span.start <= span.end <= request.end + 0.001
    assert request.attributes["millrace.cost_usd"] == float(row["cost_usd"])
    assert request.attributes["millrace.saved_usd"] == float(row["saved_usd"])
    assert (request.end - request.start) * 1000 == pytest.approx(row["latency_ms"], abs=0.1)
    assert request.resource["service.name"] == "millrace"
    assert not [span for span in spans if "wheel" in str(span)], "no word of a prompt or an answer"


async def test_a_provider_is_told_the_span_of_its_call(start: Start, collector: Collector) -> None:
    """Also over a WebSocket: of the handshake, and of one request of its own."""

    def turn(_: Any) -> list[Any]:
        return [chunk(content="A millrace leads water to a wheel."), chunk("stop", USAGE)]

    async with completing(turn) as small, traced(start, collector, small.url) as (running, http):
        await ask(http, "One?", {"traceparent": HEADER, "tracestate": "a=b"}, model="small")
        await ask(http, "Two?", model="small")
        async with wire_client(running.ws_url, additional_headers={"traceparent": HEADER}) as client:
            await client.ask("Three?", model="small")
            other = HEADER.replace(TRACE, "a" * 32)
            await client.ask("Four?", model="small", client_metadata={"ws_request_header_traceparent": other})
    spans = collector.spans
    assert len(spans) == 8
    told = [parent(small, number) for number in range(4)]
    assert [each.split("-")[1] for each in told] == [
        TRACE,
        *{span.trace_id for span in spans} - {TRACE, "a" * 32},
        TRACE,
        "a" * 32,
    ]
    calls = {span.span_id for span in spans if span.kind == CLIENT}
    assert [each.split("-")[2] in calls for each in told] == [True] * 4
    assert all(each.endswith("-01") for each in told)
    assert small.heads[0]["tracestate"] == "a=b"


def parent(server: ChatServer, number: int) -> str:
    return str(server.heads[number]["traceparent"])


async def test_without_a_collector_the_trace_is_passed_on_as_it_came(start: Start, collector: Collector) -> None:
    """And where a client records nothing, nothing is recorded here."""

    def turn(_: Any) -> list[Any]:
        return [chunk(content="A millrace leads water to a wheel."), chunk("stop", USAGE)]

    unsampled = HEADER.removesuffix("1") + "0"
    async with completing(turn) as small:
        async with (
            start(lambda found: found["models"]["small"].update(base_url=small.url)) as running,
            aiohttp.ClientSession(running.url) as http,
        ):
            await ask(http, "One?", {"traceparent": HEADER}, model="small")
            await ask(http, "Two?", model="small")
        async with traced(start, collector, small.url, metrics=False) as (_, http):
            await ask(http, "Three?", {"traceparent": unsampled}, model="small")
            await ask(http, "Four?", model="small")
    spans = collector.spans
    assert len(spans) == 2
    assert [parent(small, number) for number in (0, 2)] == [HEADER, unsampled]
    assert "traceparent" not in small.heads[1]
    assert len(spans) == 2
    assert own(spans).trace_id != TRACE


async def test_a_share_of_requests_without_a_trace_is_recorded(start: Start, collector: Collector) -> None:
    async with traced(start, collector, share=0.0) as (_, http):
        await ask(http, "One?")
        await ask(http, "Two?", {"traceparent": HEADER})
    spans = collector.spans
    assert len(spans) == 2
    assert {span.trace_id for span in spans} == {TRACE}


async def test_a_failed_call_is_an_error_and_a_cached_answer_has_none(start: Start, collector: Collector) -> None:
    async with traced(start, collector) as (_, http):
        await ask(http, "What is a weir? [fault=429]", {"traceparent": HEADER}, model="small")
        await ask(http, "What is a mill?")
        await ask(http, "What is a mill?")
    spans = collector.spans
    assert len(spans) == 5
    of_trace = [span for span in spans if span.trace_id == TRACE]
    request, (call, *_) = own(of_trace), [span for span in of_trace if span.kind == CLIENT]
    assert (request.status, call.status) == (FAILED, FAILED)
    assert request.attributes["error.type"] == call.attributes["error.type"]
    cached = [span for span in spans if span.attributes.get("millrace.answered_by") == "exact"]
    assert [span.attributes["millrace.calls"] for span in cached] == [0]
    assert not [span for span in spans if span.parent_id == cached[0].span_id]


async def test_embeddings_are_traced(start: Start, collector: Collector) -> None:
    async with embeddings_server() as embedder:

        def change(configuration: dict[str, Any]) -> None:
            configuration["traces"] = {"endpoint": collector.url}
            price = {"input": "0.02"}
            configuration["models"]["embeddings"] = {"base_url": embedder.url, "model": MODEL, "price": price}

        async with start(change) as running, aiohttp.ClientSession(running.url) as http:
            body = {"model": MODEL, "input": "a mill"}
            async with http.post("/v1/embeddings", json=body, headers={"traceparent": HEADER}) as answer:
                assert answer.status == 200
    spans = collector.spans
    assert len(spans) == 2
    assert {(span.name, span.kind) for span in spans} == {
        (f"embeddings {MODEL}", SERVER),
        (f"embeddings {MODEL}", CLIENT),
    }
    assert {span.trace_id for span in spans} == {TRACE}


async def test_prompts_are_sent_only_where_the_operator_asks_for_it(start: Start, collector: Collector) -> None:
    async with traced(start, collector, prompts=True) as (_, http):
        answer = await ask(http, "What is a wheel? [weak]")
    request = own(collector.spans)
    said = answer["output"][0]["content"][0]["text"]
    (asked,) = json.loads(request.attributes["gen_ai.input.messages"])
    (answered,) = json.loads(request.attributes["gen_ai.output.messages"])
    assert asked == {"role": "user", "parts": [{"type": "text", "content": "What is a wheel? [weak]"}]}
    assert answered["parts"] == [{"type": "text", "content": said}], "and not what was taken back"


async def test_metrics_are_sent_by_the_same_conventions(start: Start, collector: Collector) -> None:
    async with traced(start, collector) as (_, http):
        answer = await ask(http, "What is a mill?")
    (usage,) = collector.metrics["gen_ai.client.token.usage"].histogram.data_points[:1]
    tokens = collector.metrics["gen_ai.client.token.usage"].histogram.data_points
    assert {int(point.sum) for point in tokens} == {answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]}
    assert usage.explicit_bounds[:4] == [1, 4, 16, 64]
    for name in (
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
    ):
        (point,) = collector.metrics[name].histogram.data_points
        assert (point.count, collector.metrics[name].unit) == (1, "s")
    (spent,) = collector.metrics["millrace.cost"].sum.data_points
    assert spent.as_double == pytest.approx(answer["usage"]["cost_usd"])


async def test_a_collector_that_fails_costs_no_request(start: Start, collector: Collector) -> None:
    """It is told in the log, once, without a word of the trace; what comes later is sent."""
    async with traced(start, collector, metrics=False) as (_, http):
        collector.status = 400
        with captured_logs() as logs:
            assert (await ask(http, "A secret heron?"))["status"] == "completed"
            await until(lambda: "traces not sent" in logs.text)
        collector.status = 200
        await ask(http, "What is a mill?")
        found = await scraped(http)
    spans = collector.spans
    assert len(spans) == 2
    assert "heron" not in logs.text
    assert "Traceback" not in logs.text
    assert found.value("millrace_traced_requests_total", result="queued") == 2


def test_an_endpoint_is_a_url() -> None:
    for wrong in ("collector:4318", "http://", "http://user:s3cret@host", "http://host/?x=1"):
        said = faults_of({"endpoint": wrong})
        assert "traces.endpoint: it is no URL; write that of a collector" in said
        assert "s3cret" not in said
    assert "traces" not in faults_of({"endpoint": "https://collector.example:4318/otlp"})


def test_without_the_extra_a_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", missing)
    said = faults_of({"endpoint": "http://127.0.0.1:4318"})
    assert "traces.endpoint: OpenTelemetry is not installed" in said
    assert "pip install 'millrace[otel]'" in said
    assert "traces" not in faults_of({"share": 0.5})


def missing(module: str) -> None:
    """Look for a module as where the extra is not installed."""
    if module.startswith("opentelemetry.sdk"):
        return
    raise ModuleNotFoundError(module)


def faults_of(traces: dict[str, Any]) -> str:
    with pytest.raises(settings.SettingsError) as error:
        settings.build({"traces": traces, "models": {}}, {})
    return "\n".join(map(str, error.value.faults))
