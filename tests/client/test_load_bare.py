"""The load test's other server: an OpenAI-compatible upstream over HTTP, with what such servers do to their clients."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from millrace.types import Strategy
from millrace_client.load import report
from millrace_client.load.bare import Bare, NotComparable, base, messages
from millrace_client.load.prompts import Mix, Row
from millrace_client.load.run import CLOCK, Plan, Run
from millrace_client.load.sample import Sample
from millrace_client.load.websocket import Millrace
from tests.support.server import Running
from tests.support.waiting import PATIENCE_S, until
from tests.support.written_http import CLOSE, Written, document, events, written_http

PLAN = Plan(connections=2, lanes=4, rate=None, poisson=True, duration_s=30.0, requests=20, seed=1)
WORD = '{"choices": [{"index": 0, "delta": {"content": "word"}}]}'
ROLE = '{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}'
STOP = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
USAGE = '{"choices": [], "usage": {"completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 1}}}'
GOOD = events(ROLE, WORD, WORD, STOP, USAGE, "[DONE]")


@pytest.fixture(autouse=True)
def cancels_may_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a busy machine; what is about the time that they have sets its own."""
    monkeypatch.setattr("millrace_client.load.run.GRACE_S", PATIENCE_S)


def target(server: Written | str, **options: Any) -> Bare:
    url = server if isinstance(server, str) else server.url
    return Bare(url, options.pop("key", None), options.pop("model", "m"), lanes=options.pop("lanes", 1), clock=CLOCK)


async def asked(server: Written, **row: Any) -> Sample:
    bare = target(server)
    await bare.open()
    try:
        return await asyncio.wait_for(bare.ask(0, Row(input="x", **row), CLOCK()), PATIENCE_S)
    finally:
        await bare.close()


async def test_the_same_load_on_millrace_and_on_its_upstream(millrace: Running) -> None:
    """Interleaved; the ratios are printed, and Millrace's own figures are as without it."""
    rows = [Row(input="Say something. [tokens=20] [ttft=0.02]", strategy=Strategy.SMALL, fresh=True)]
    ours = Millrace(millrace.url, None, connections=2, clock=CLOCK)
    bare = target(millrace.small.base_url, model=None)
    async with Run(PLAN, lambda: Mix(rows, seed=1, fresh=False), ours, bare) as one:
        measured = await one.finish()
    assert measured.bare is not None
    assert measured.millrace.statuses == measured.bare.statuses == {"completed": 20}
    assert millrace.small.stats.started == 40
    assert measured.millrace.cost_usd is not None
    assert measured.bare.cost_usd is None
    assert {*measured.ratios} >= {"ttft", "itl", "e2e", "e2e_service"}
    assert measured.bare.tpot is not None
    console = Console(file=StringIO(), width=120)
    report.show(measured, console)
    assert isinstance(console.file, StringIO)
    said = console.file.getvalue()
    assert "Millrace / the bare upstream" in said
    assert "×" in said
    read = json.loads(report.as_json(measured))
    assert read["compare"]["ratios"]["e2e"]["p50"] == measured.ratios["e2e"]["p50"]
    assert read["compare"]["ended"] == 20


async def test_what_is_sent() -> None:
    """Once per request, with the key, on one connection; the options of Millrace are not the upstream's."""
    async with written_http([GOOD]) as server:
        bare = target(server, key="sk-1")
        await bare.open()
        rows = (Row(input="Why?", strategy=Strategy.LARGE, model="auto"), Row(input=[{"role": "user", "content": "x"}]))
        for row in rows:
            sample = await bare.ask(0, row, CLOCK())
            assert (sample.status, sample.error) == ("completed", None)
        await bare.close()
    assert server.connections == 1
    assert all("Authorization: Bearer sk-1\r\n" in head for head in server.heads)
    assert server.heads[0].startswith("POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:")
    bodies = [json.loads(body) for body in server.bodies]
    assert bodies[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Why?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert bodies[1]["messages"] == [{"role": "user", "content": "x"}]


async def test_an_answer_in_any_pieces() -> None:
    """Each frame of text is timed once, an empty one not at all."""
    for pieces in ([GOOD], [GOOD[at : at + 7] for at in range(0, len(GOOD), 7)]):
        async with written_http(pieces) as server:
            sample = await asked(server)
        assert (sample.status, sample.code, len(sample.timeline.gaps)) == ("completed", None, 1)
        assert sample.answer is not None
        assert (sample.answer.tokens, sample.answer.reasoning, sample.answer.cost) == (3, 1, None)


COST = '{"choices": [], "usage": {"completion_tokens": 3, "cost_usd": 0.25}}'


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ([events(WORD, STOP, "[DONE]", close=True), CLOSE], "completed", None),
        ([events(WORD, STOP, close=True), CLOSE], "completed", None),
        ([events(WORD, STOP.replace("stop", "length"), "[DONE]")], "incomplete", "max_output_tokens"),
        ([events(WORD, STOP.replace("stop", "content_filter"), "[DONE]")], "incomplete", "content_filter"),
        ([events(WORD, "[DONE]")], "failed", "truncated"),
        ([events(WORD, '{"error": {"message": "no", "code": "overloaded"}}')], "failed", "overloaded"),
        ([events(WORD, '{"error": "no"}')], "failed", "error"),
        ([events(WORD, "{not json")], "failed", "bad_chunk"),
        ([GOOD[: GOOD.index(b'"stop"')], CLOSE], "lost", "connection_lost"),
        ([b"not http at all\r\n\r\n"], "lost", "connection_lost"),
        ([document("429 Too Many", '{"error": {"code": "rate_limit_exceeded"}}')], "refused", "rate_limit_exceeded"),
        ([document("400 Bad", '{"error": {"type": "invalid", "code": null}}')], "refused", "invalid"),
        ([document("502 Bad Gateway", "<html>")], "refused", "http_502"),
    ],
)
async def test_how_an_answer_ends(pieces: list[bytes], status: str, code: str | None) -> None:
    async with written_http(pieces) as server:
        sample = await asked(server)
    assert (sample.status, sample.code) == (status, code)
    assert sample.error == (None if status == "completed" or code == "max_output_tokens" else code)


async def test_a_server_that_says_what_it_costs() -> None:
    """Such as another Millrace."""
    async with written_http([events(WORD, STOP, COST, "[DONE]")]) as server:
        sample = await asked(server)
    assert sample.answer is not None
    assert sample.answer.cost == Decimal("0.25")


async def test_a_connection_that_was_closed_while_idle_is_no_error() -> None:
    """As a server's keep-alive ends at any time. One that breaks in its first request is lost."""
    async with written_http([GOOD], [CLOSE], [GOOD], [CLOSE]) as server:
        bare = target(server)
        await bare.open()
        statuses = [(await bare.ask(0, Row(input="x"), CLOCK())).status for _ in range(3)]
        assert (statuses, bare.losses) == (["completed", "completed", "lost"], 1)
        await bare.close()


async def test_a_cancel_closes_the_socket(millrace: Running) -> None:
    """That of a row, and that at the end of a run."""
    talk = Row(input="Talk. [tokens=900] [rate=100]", cancel_after_ms=1000, expect="cancelled")
    bare = target(millrace.large.base_url, model=None)
    await bare.open()
    sample = await bare.ask(0, talk, CLOCK())
    assert (sample.status, sample.error, sample.timeline.first is not None) == ("cancelled", None, True)
    await until(lambda: millrace.large.stats.running == 0)
    plan = replace(PLAN, requests=4, duration_s=1.0, drain_s=0.1)
    rows = [Row(input="Wait. [ttft=30]")]
    async with Run(plan, lambda: Mix(rows, seed=1, fresh=False), target(millrace.large.base_url, model=None)) as one:
        measured = await one.finish()
    assert measured.millrace.statuses == {"cancelled": 4}
    assert measured.millrace.cut == 4
    await until(lambda: millrace.large.stats.running == 0)


async def test_failures_that_a_row_expects_have_other_names_here(millrace: Running) -> None:
    """Codes are Millrace's; of the bare server any failure will do. An answer will not."""
    bare = target(millrace.small.base_url, model=None)
    await bare.open()
    failed = await bare.ask(0, Row(input="x [fault=429]", expect="upstream_error"), CLOCK())
    assert (failed.status, failed.error) == ("refused", None)
    answered = await bare.ask(0, Row(input="What is an API?", expect="upstream_error"), CLOCK())
    assert answered.error == "completed instead of upstream_error"
    await bare.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (document("200 OK", '{"data": [{"id": "a"}, {"id": "b"}]}'), "has 2 models; choose one: --compare-model a"),
        (document("200 OK", '{"data": []}'), "names no model"),
        (document("404 Not Found", "nothing"), r"names no model \(HTTP 404\); name one"),
        (document("401 Unauthorized", "{}"), "wants a key: --compare-api-key"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not say which models it has"),
    ],
)
async def test_a_model_that_is_not_named_must_be_the_only_one(answer: bytes, said: str) -> None:
    async with written_http([answer]) as server:
        bare = target(server, model=None)
        with pytest.raises(NotComparable, match=said):
            await bare.open()
        await bare.close()


async def test_nothing_answers() -> None:
    with pytest.raises(NotComparable, match=r"nothing answers at http://127\.0\.0\.1:9/v1"):
        await target("http://127.0.0.1:9").open()


async def test_a_server_that_goes_away_is_told_by_its_errors() -> None:
    async with written_http([GOOD]) as server:
        bare = target(server)
        await bare.open()
    sample = await bare.ask(0, Row(input="x"), CLOCK())
    assert (sample.status, sample.code) == ("lost", "unreachable")


def test_addresses() -> None:
    """As an SDK's base_url has it; a path is kept, none means /v1."""
    for url, found in (
        ("http://h:1/v1", "http://h:1/v1"),
        ("h:1", "http://h:1/v1"),
        ("https://h/openai/v1/", "https://h/openai/v1"),
        ("http://h/v1/chat/completions", "http://h/v1"),
    ):
        assert base(url).geturl() == found
    for url in ("ws://h", "http://", "http://h:port"):
        with pytest.raises(ValueError, match=r".+"):
            base(url)


def test_messages_of_text_alone_can_be_compared() -> None:
    parts = [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]
    assert messages(Row(input=parts)) == [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    for item in (
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]},
        {"role": "user"},
    ):
        with pytest.raises(ValueError, match="only messages of text"):
            messages(Row(input=[item]))
