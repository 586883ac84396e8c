"""A failing model is seen: on every wire, in the log, which has nobody's words, and in `/readyz?verbose`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from millrace.funnel import breaker
from tests.support.http_client import CHAT, RESPONSES, body_of, events_of, lines_of
from tests.support.logs import captured_logs
from tests.support.provider import (
    DONE,
    END,
    HEAD,
    Provider,
    Script,
    body,
    event,
    listening,
    one_after_another,
    refusal,
    says,
    stay,
)
from tests.support.server import configuration_for, serving
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire_client import check_response, output_of, wire_client

USAGE = {"prompt_tokens": 5, "completion_tokens": 2}
SECRET = "sk-secret-0123456789"
QUESTION = "Where is the mill of my aunt?"


def answering(text: str, *, after: asyncio.Event | None = None) -> Script:
    async def script(writer: asyncio.StreamWriter) -> None:
        if after is not None:
            await after.wait()
            await asyncio.sleep(0.05)  # so that what came before is read
        writer.write(HEAD + body(event(text), event(finish="stop", usage=USAGE), DONE) + END)
        await writer.drain()

    return script


def then(script: Script, done: asyncio.Event) -> Script:
    async def both(writer: asyncio.StreamWriter) -> None:
        await script(writer)
        done.set()

    return both


def refusing(status: int, words: str = "no", code: str | None = None, **headers: str) -> Script:
    return says(refusal(status, {"message": words, "code": code}, **headers), then=stay)


@dataclass(frozen=True, slots=True)
class Served:
    """A server, and the two scripted providers behind it."""

    url: str
    small: Provider
    large: Provider
    http: aiohttp.ClientSession

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def calls(self) -> tuple[int, int]:
        return len(self.small.requests), len(self.large.requests)

    async def health(self) -> dict[str, Any]:
        """Return what `/readyz?verbose` says of each model, by tier."""
        async with self.http.get("/readyz?verbose") as answer:
            return {model["tier"]: model for model in (await answer.json())["models"]}

    async def running(self) -> int:
        """Return how many requests run."""
        async with self.http.get("/healthz") as answer:
            return int((await answer.json())["running"])

    async def asks_again(self) -> None:
        """Wait until the small model is not left alone any more."""
        async with asyncio.timeout(PATIENCE_S):
            while not (await self.health())["small"]["can_be_asked"]:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.01)

    async def ask(self, wire: str, **options: Any) -> dict[str, Any]:
        """Ask on one wire; return the metadata, the error and the usage that it ended with."""
        asked = {"cache": "off", "strategy": "cascade", **options}
        if wire.startswith("ws"):
            async with wire_client(self.ws_url, negotiated=wire == "ws negotiated") as client:
                events = await client.ask(QUESTION, millrace=asked)
            routes = [event for event in events if event["type"] == "millrace.route"]
            return check_response(events, negotiated=wire == "ws negotiated") | {"routes": routes}
        path = CHAT if "chat" in wire else RESPONSES
        stream: dict[str, Any] = {"stream": True} if "stream" in wire else {}
        stream |= {"stream_options": {"include_usage": True}} if stream and path == CHAT else {}
        async with self.http.post(path, json=body_of(path, QUESTION, millrace=asked, **stream)) as answer:
            if not stream or answer.content_type == "application/json":
                got: dict[str, Any] = await answer.json()
                return {"error": None} | got | {"status_code": answer.status, "headers": answer.headers}
            last = events_of(await lines_of(answer))[-1]
        return last["response"] if path == RESPONSES else {"error": None} | last


@asynccontextmanager
async def behind(small: Script, large: Script, key: dict[str, str] | None = None) -> AsyncIterator[Served]:
    """Run a server before two scripted providers; `key` is the variable of both keys, and its value."""
    async with listening(small) as (one, small_url), listening(large) as (other, large_url):
        configuration = configuration_for(small_url, large_url)
        for model in configuration["models"].values():
            model.update({"api_key_env": next(iter(key))} if key else {})
        async with serving(configuration, environ=key or {}) as url, aiohttp.ClientSession(url) as http:
            yield Served(url, one, other, http)


WIRES = ["ws negotiated", "ws plain", "responses", "responses stream", "chat", "chat stream"]
LARGE_ANSWERS = answering("Large.")
FAILURES = {  # of the small model: code, words, and the cause in the log
    "500": (refusing(500, "it burns"), "upstream_error", "answered HTTP 500: it burns", "answered HTTP 500"),
    "context": (
        refusing(400, "at most 9 tokens", "context_length_exceeded"),
        "context_length_exceeded",
        "answered HTTP 400: at most 9 tokens",
        "answered HTTP 400, context_length_exceeded",
    ),
    "close": (says(), "upstream_error", "closed the connection before", "closed the connection before it answered"),
    "cut": (
        says(HEAD + body(event("Well"))),  # which may become a weak beginning, so nobody has seen it for good
        "upstream_truncated",
        "the connection to small-model broke",
        "the connection broke in mid-answer",
    ),
    "stream": (
        says(HEAD + body(event(error={"message": "it burns", "type": "overloaded_error"})), then=stay),
        "upstream_overloaded",
        "failed: it burns",
        "failed, error 529, overloaded",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_when_small_fails_and_large_answers_every_wire_says_which_and_why(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FAILURES", 100)  # or it is not asked by the last wire
    script, code, words, cause = FAILURES[failure]
    with captured_logs() as logs:
        async with behind(script, LARGE_ANSWERS) as served:
            for wire in WIRES:
                ended = await served.ask(wire)
                assert (ended["error"], ended["metadata"]["millrace.route"]) == (None, "large")
                assert words in ended["metadata"]["millrace.failed"]
                assert "small-model" in ended["metadata"]["millrace.failed"]
                if wire == "ws negotiated":
                    first, second = ended["routes"]
                    assert "failed" not in first
                    assert second["failed"] == [
                        {"model": "small-model", "code": code, "message": ended["metadata"]["millrace.failed"]}
                    ]
                    assert (second["model"], second["tier"]) == ("large-model", "large")
                    assert second["reason"] == f"small-model failed: {cause}"
            health = await served.health()
    tries = 2 if failure == "close" else 1
    assert (health["small"]["status"], health["large"]["status"]) == ("failing", "ok")
    assert health["small"]["last_cause"] == cause
    assert health["small"]["causes"] == {cause: tries * len(WIRES)}
    assert health["small"]["failures_last_minute"] == tries * len(WIRES)
    (line,) = logs.from_millrace.getvalue().splitlines()
    told = json.loads(line)
    assert (told["level"], told["event"], told["model"], told["cause"]) == (
        "warning",
        "model failed",
        "small-model",
        cause,
    )


@pytest.mark.parametrize("wire", WIRES)
async def test_when_both_fail_both_are_told(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own words, the key in neither; under the code that says what to do, with the time to come again."""
    small = refusing(400, f"too long for {SECRET}", "context_length_exceeded")
    large = refusing(429, f"slow down, {SECRET}", "rate_limit_exceeded", Retry_After="7")
    monkeypatch.setenv("SCRIPTED_KEY", SECRET)
    async with behind(small, large, {"SCRIPTED_KEY": SECRET}) as served:
        ended = await served.ask(wire)
        error, health = ended["error"], await served.health()
    assert error["message"] == (
        "small-model answered HTTP 400: too long for [key]; large-model answered HTTP 429: slow down, [key]"
    )
    assert (error["code"], error["retry_after_ms"]) == ("rate_limit_exceeded", 7000)
    if "status_code" in ended:
        assert (ended["status_code"], ended["headers"]["Retry-After"]) == (429, "7")
        assert ended["headers"]["X-Should-Retry"] == "true"
    assert (health["small"]["status"], health["large"]["status"]) == ("failing", "failing")
    assert [attempt["outcome"] for attempt in ended["usage"]["attempts"]] == ["failed", "failed"]
    assert ended["usage"]["cost_usd"] == 0


async def test_a_fault_of_the_operator_does_not_hide_what_the_caller_can_mend() -> None:
    async with behind(refusing(400, "too long", "context_length_exceeded"), refusing(401)) as served:
        ended = await served.ask("chat")
    assert (ended["status_code"], ended["error"]["code"]) == (400, "context_length_exceeded")
    assert "large-model refused the key" in ended["error"]["message"]


async def test_a_weak_answer_and_a_large_model_that_fails_are_both_told() -> None:
    async with behind(answering("I don't know."), refusing(500, "it burns")) as served:
        error = (await served.ask("responses"))["error"]
    assert error["message"] == (
        "the small model's answer failed the check 'unsure'; large-model answered HTTP 500: it burns"
    )


@pytest.mark.parametrize("strategy", ["race", "hedge"])
async def test_one_that_was_slower_has_not_failed(strategy: str) -> None:
    """Neither in a race nor after a hedge."""
    never = asyncio.Event()
    for small, large in (
        (answering("S", after=never), LARGE_ANSWERS),
        (answering("Small."), answering("L", after=never)),
    ):
        async with behind(small, large) as served:
            ended = await served.ask("ws negotiated", strategy=strategy, hedge_ms=1, grace_ms=1)
            assert "millrace.failed" not in ended["metadata"]
            assert all("failed" not in route for route in ended["routes"])
            health = await served.health()
            assert "failing" not in (health["small"]["status"], health["large"]["status"])


@pytest.mark.parametrize("strategy", ["race", "hedge"])
@pytest.mark.parametrize("wire", ["ws negotiated", "chat"])
async def test_one_that_failed_in_a_race_is_told(strategy: str, wire: str) -> None:
    refused = asyncio.Event()
    async with behind(then(refusing(500, "it burns"), refused), answering("Large.", after=refused)) as served:
        ended = await served.ask(wire, strategy=strategy)
        assert ended["metadata"]["millrace.failed"] == "small-model answered HTTP 500: it burns"
        if wire == "ws negotiated":
            assert ended["routes"][-1]["failed"][0]["model"] == "small-model"
            won = "won the race: " if strategy == "race" else ""  # there was none yet
            assert ended["routes"][-1]["reason"] == f"{won}small-model failed: answered HTTP 500"


@pytest.mark.parametrize("strategy", ["race", "hedge"])
async def test_a_race_that_nobody_wins_tells_both(strategy: str) -> None:
    async with behind(refusing(500, "it burns"), refusing(429, "slow down", Retry_After="3")) as served:
        error = (await served.ask("responses", strategy=strategy))["error"]
    assert (error["message"], error["retry_after_ms"]) == (
        "small-model answered HTTP 500: it burns; large-model answered HTTP 429: slow down",
        3000,
    )


@pytest.mark.parametrize("large", [refusing(429, "slow", Retry_After="9"), refusing(401), refusing(400, "no")])
async def test_a_large_model_that_has_refused_in_a_race_is_not_asked_again(large: Script) -> None:
    """The small answer is weak, but it is all there is; it says that it is, and is kept."""
    refused = asyncio.Event()
    async with behind(answering("I don't know.", after=refused), then(large, refused)) as served:
        ended = await served.ask("ws negotiated", strategy="race")
        assert served.calls == (1, 1)
    assert output_of(ended) == "I don't know."
    assert ended["metadata"]["millrace.check"] == "unsure"
    assert (
        ended["metadata"]["millrace.failed"].startswith("large-model") or "large-model" in ended["routes"][-1]["reason"]
    )


async def test_one_that_rides_along_is_told_too() -> None:
    """Its own bill has no call, but its answer came about in the same way."""
    failing = asyncio.Event()

    async def fail_late(writer: asyncio.StreamWriter) -> None:
        await failing.wait()
        await refusing(500, "it burns")(writer)

    async with behind(fail_late, LARGE_ANSWERS) as served:
        first = asyncio.create_task(served.ask("chat", cache="on"))
        await until(lambda: served.calls == (1, 0))
        second = asyncio.create_task(served.ask("responses", cache="on"))
        while await served.running() < 2:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # it looks for an answer first
        failing.set()
        ended = [(await first)["metadata"], (await second)["metadata"]]
        assert served.calls == (1, 1)
    assert [each["millrace.cache"] for each in ended] == ["miss", "joined"]
    assert [each["millrace.failed"] for each in ended] == ["small-model answered HTTP 500: it burns"] * 2


async def test_a_retry_is_told_and_not_billed() -> None:
    """One call on the bill, a note in the metadata, and the first fault in the record and the log."""
    small = one_after_another(refusing(503, "busy"), answering("Small."))
    with captured_logs() as logs:
        async with behind(small, LARGE_ANSWERS) as served:
            ended = await served.ask("chat")
            assert served.calls == (2, 0)
            health = (await served.health())["small"]
    (attempt,) = ended["usage"]["attempts"]
    assert (attempt["outcome"], attempt["tokens"]) == ("answered", 7)
    assert ended["metadata"]["millrace.notes"] == "small-model answered HTTP 503 and was tried once more"
    assert "millrace.failed" not in ended["metadata"]
    assert (health["status"], health["failures_last_minute"]) == ("degraded", 1)
    assert "answered HTTP 503" in logs.from_millrace.getvalue()


async def test_a_model_that_named_a_later_time_is_left_alone_until_then() -> None:
    """A cascade goes to the large model at once, and says so; whoever wants the small model alone is told the time.

    Then it is asked one word first.
    """
    small = one_after_another(refusing(429, "slow", Retry_After="0.6"), answering("ready"), answering("Small."))
    async with behind(small, LARGE_ANSWERS) as served:
        assert (await served.ask("chat"))["metadata"]["millrace.failed"] == "small-model answered HTTP 429: slow"
        passed_over = await served.ask("ws negotiated")
        assert served.calls == (1, 2)
        (route,) = passed_over["routes"]
        assert route["tier"] == "large"
        assert "small-model answered HTTP 429, not to be asked for 1 s more" in route["failed"][0]["message"]
        assert passed_over["metadata"]["millrace.failed"] == route["failed"][0]["message"]
        await until(lambda: len(served.small.requests) == 2)
        await served.asks_again()
        assert (await served.ask("chat"))["metadata"]["millrace.route"] == "small"
        served.small.script = refusing(429, "slow", Retry_After="60")
        await served.ask("chat")
        calls = served.calls
        error = (await served.ask("responses", strategy="small"))["error"]
        assert 30_000 < error["retry_after_ms"] <= 60_000
        assert error["message"].startswith("small-model answered HTTP 429, not to be asked for ")
        assert served.calls == calls
        served.large.script = refusing(500, "it burns")
        both = (await served.ask("responses"))["error"]["message"]
        assert both.startswith("small-model answered HTTP 429, not to be asked for ")
        assert both.endswith("; large-model answered HTTP 500: it burns")


async def test_no_log_line_has_the_words_of_a_provider_or_a_client() -> None:
    """A provider may quote the prompt, also as its finish reason."""
    with captured_logs(level="info") as logs:
        for script in (
            refusing(400, QUESTION, "aunt_mill"),
            says(HEAD + body(event(error={"message": QUESTION, "code": "aunt_mill"})), then=stay),
            says(HEAD + body(event("Hel", "error", word="aunt_mill"), DONE), then=stay),
        ):
            async with behind(script, refusing(500, QUESTION, "aunt_mill")) as served:
                assert (await served.ask("responses"))["error"] is not None
    assert "model failed" in logs.from_millrace.getvalue()
    assert "aunt" not in logs.from_millrace.getvalue()
