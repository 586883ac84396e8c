"""`millrace doctor` looks whether the collector of [traces] takes what is sent."""

import asyncio
from typing import Any

import pytest

from millrace import settings
from millrace.cli import findings
from millrace.cli.findings import Finding, State
from tests.support.collector import collecting
from tests.support.server import configuration_for


async def found(endpoint: str | None) -> list[Finding]:
    tree: dict[str, Any] = configuration_for("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
    tree["traces"] = {} if endpoint is None else {"endpoint": endpoint}
    return await asyncio.to_thread(findings.collector, settings.build(tree, {}))


async def test_a_collector_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b,")
    assert await found(None) == []
    async with collecting() as collector:
        (fine,) = await found(collector.url)
        assert (fine.state, collector.requests) == (State.FINE, 1)
        assert collector.heads[0]["x-key"] == "a b"
        collector.status = 403
        (refused,) = await found(collector.url)
        (nowhere,) = await found(f"{collector.url}/otlp")
        gone = collector.url
    (away,) = await found(gone)
    assert {each.state for each in (refused, nowhere, away)} == {State.NOTE}
    assert "HTTP 403" in refused.text
    assert "OTEL_EXPORTER_OTLP_HEADERS" in refused.advice
    assert "HTTP 404" in nowhere.text
    assert "could not be reached" in away.text
