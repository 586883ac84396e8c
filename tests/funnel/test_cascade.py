"""Small, then large: what is kept, what is taken back, and who gets to see it."""

import json
from typing import Any
from unittest.mock import patch

import pytest

from millrace import tokens
from millrace.simulator import HARD, answers, shapes
from tests.support.server import Running
from tests.support.waiting import until
from tests.support.wire_client import TERMINALS, Event, check_response, output_of, text_of, wire_client

MID_STREAM = ["hangup@3", "reset@3", "error@3", "end@3", "malformed@3"]
CODES = {"error@3": "upstream_error", "malformed@3": "upstream_error"}  # the others: upstream_truncated
EARLY = {"error": "upstream_error", "429": "rate_limit_exceeded", "overloaded": "upstream_overloaded"}


@pytest.mark.parametrize("question", HARD)
async def test_a_weak_answer_is_taken_back(millrace: Running, question: str) -> None:
    """Every question the small model is weak at is answered by the large one; both calls are on the bill."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask(question)
    response = check_response(events, negotiated=True)
    (revise,) = [event for event in events if event["type"] == "millrace.revise"]
    assert (revise["from_model"], revise["to_model"], revise["keep_through"]) == ("small-model", "large-model", -1)
    assert revise["reason"] == response["metadata"]["millrace.check"]
    assert revise["reason"] in ("empty", "refusal", "unsure")
    assert response["metadata"]["millrace.route"] == "large"
    assert [attempt["outcome"] for attempt in response["usage"]["attempts"]] == ["revised", "answered"]
    assert response["usage"]["saved_usd"] < 0


@pytest.mark.parametrize("delivery", [None, "prefix", "commit", "final", "speculate"])
async def test_a_plain_client_never_sees_a_word_that_is_taken_back(millrace: Running, delivery: str | None) -> None:
    """Whatever delivery it asks for: all its deltas are the large model's."""
    options = {"delivery": delivery} if delivery else {}
    async with wire_client(millrace.ws_url) as client:
        events = await client.ask("Prove that the square root of 2 is irrational.", millrace=options)
    response = check_response(events)
    assert response["metadata"]["millrace.route"] == "large"
    assert "√2" in output_of(response)
    assert "sure" not in text_of(events)


async def test_speculation_shows_the_small_models_words_first(millrace: Running) -> None:
    """A negotiated client reads them while they come; the revise names the item whose words it drops."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask("Prove that the square root of 2 is irrational. [rate=200]")
    kinds = [event["type"] for event in events]
    revised = kinds.index("millrace.revise")
    assert kinds.index("response.output_text.delta") < revised
    assert text_of(events[:revised])
    items = {event["item_id"] for event in events if "item_id" in event}
    assert len(items) == 1
    assert kinds.count("response.output_item.added") == 1


@pytest.mark.parametrize("negotiated", [False, True])
async def test_a_good_small_answer_stands(millrace: Running, *, negotiated: bool) -> None:
    """No large call, and words that come as they are generated."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask("talk [tokens=60]")
    assert check_response(events, negotiated=negotiated)["metadata"]["millrace.route"] == "small"
    assert millrace.large.stats.started == 0


@pytest.mark.parametrize(
    ("delivery", "deltas"), [("final", (1, 1)), ("commit", (1, 1)), ("prefix", (10, 100)), ("speculate", (40, 100))]
)
async def test_each_delivery_streams_as_it_says(millrace: Running, delivery: str, deltas: tuple[int, int]) -> None:
    """`commit` and `final` show one piece, `prefix` a short beginning and then words, `speculate` words."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask("talk [tokens=90] [rate=400]", millrace={"delivery": delivery})
    check_response(events, negotiated=True)
    shown = [event for event in events if event["type"] == "response.output_text.delta"]
    assert deltas[0] <= len(shown) <= deltas[1]


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        ("Simulated words come one by one, and nothing else does.", 1),
        ("I would say that it turns. It turns all day long, and all night too.", 2),
        ("Well, hmm, the wheel turns. It turns all day long, and all night too.", 5),
        ("* - " * 40 + "the end", 40),
    ],
)
async def test_a_prefix_is_held_while_it_may_become_a_weak_one(millrace: Running, answer: str, held: int) -> None:
    """Most answers show after a token or two that they neither refuse nor doubt; after forty it is enough."""
    with patch.object(answers, "find", lambda *_: answer):
        async with wire_client(millrace.ws_url) as client:
            events = await client.ask("a question [rate=100]")
    check_response(events)
    first = next(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert held <= tokens.count(first) <= held + 2
    assert text_of(events) == answer


@pytest.mark.parametrize("fault", MID_STREAM)
async def test_a_break_in_mid_stream_under_small_is_one_failed(millrace: Running, fault: str) -> None:
    """Never completed, nothing cached, the words shown stay in the terminal."""
    async with wire_client(millrace.ws_url) as client:
        for _ in range(2):
            events = await client.ask(f"talk [tokens=20] [fault={fault}]", millrace={"strategy": "small"})
            response = check_response(events)
            assert events[-1]["type"] == "response.failed"
            assert response["error"]["code"] == CODES.get(fault, "upstream_truncated")
            assert response["usage"]["cost_usd"] > 0
            assert response["usage"]["estimated"] is True
            assert not any(event["type"].endswith(".done") for event in events)
    assert millrace.small.stats.started == 2
    assert millrace.large.stats.started == 0


@pytest.mark.parametrize("fault", MID_STREAM)
@pytest.mark.parametrize("negotiated", [False, True])
async def test_a_break_in_mid_stream_escalates(millrace: Running, fault: str, *, negotiated: bool) -> None:
    """The large model's answer, and only a negotiated client ever saw the small one's words."""
    options = {} if negotiated else {"delivery": "commit"}
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask(f"talk [tokens=20] [fault.small={fault}]", millrace=options)
    response = check_response(events, negotiated=negotiated)
    assert events[-1]["type"] == "response.completed"
    assert response["metadata"]["millrace.route"] == "large"
    assert [event["reason"] for event in events if event["type"] == "millrace.revise"] == (
        [CODES.get(fault, "upstream_truncated")] if negotiated else []
    )
    assert text_of(events) == output_of(response)


@pytest.mark.parametrize("fault", ["hangup@60", "reset@60", "error@60", "end@60"])
@pytest.mark.parametrize("negotiated", [False, True])
async def test_after_a_committed_prefix_a_break_is_failed(millrace: Running, fault: str, *, negotiated: bool) -> None:
    """A plain client has been shown words that stand: they stay, and the response fails. Others get a revise."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        events = await client.ask(f"talk [tokens=90] [rate=400] [fault.small={fault}]")
    response = check_response(events, negotiated=negotiated)
    if negotiated:
        assert response["status"] == "completed"
        assert response["metadata"]["millrace.route"] == "large"
    else:
        assert events[-1]["type"] == "response.failed"
        assert response["error"]["code"] == CODES.get(fault.replace("60", "3"), "upstream_truncated")
        assert text_of(events)
        assert millrace.large.stats.started == 0


@pytest.mark.parametrize(("fault", "code"), EARLY.items())
async def test_a_refusal_before_the_first_token(millrace: Running, fault: str, code: str) -> None:
    """Under `small` it fails with the code of the table and costs nothing; a cascade goes on to the large model."""
    async with wire_client(millrace.ws_url) as client:
        failed = check_response(await client.ask(f"talk [fault={fault}]", millrace={"strategy": "small"}))
        assert failed["error"]["code"] == code
        assert failed["error"].get("retry_after_ms") == (2000 if fault == "429" else None)
        assert failed["usage"]["cost_usd"] == 0
        answered = check_response(await client.ask(f"talk [fault.small={fault}]"))
        assert answered["metadata"]["millrace.route"] == "large"
        both = check_response(await client.ask(f"talk on [fault={fault}]"))
        assert both["error"]["code"] == code


async def test_a_refused_key_is_explained_without_the_key(millrace: Running) -> None:
    """The provider's text may repeat a part of it, so it is not passed on."""
    async with wire_client(millrace.ws_url) as client:
        response = check_response(await client.ask("talk [fault=unauthorized]", millrace={"strategy": "large"}))
    assert response["error"]["code"] == "upstream_error"
    assert "api_key_env" in response["error"]["message"]


async def test_a_web_page_is_not_an_answer(millrace: Running) -> None:
    """A proxy's HTML with status 200 is an error, not an empty answer."""
    async with wire_client(millrace.ws_url) as client:
        response = check_response(await client.ask("talk [fault=html]", millrace={"strategy": "small"}))
    assert response["error"]["code"] == "upstream_error"
    assert "a page" in response["error"]["message"]


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
FORMAT = {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}}


@pytest.mark.parametrize("negotiated", [False, True])
async def test_a_declared_form_is_held_until_it_holds(millrace: Running, *, negotiated: bool) -> None:
    """Delivery is `commit` where a format is declared: a broken document is never shown, the large model's is."""
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        good = await client.ask("a city", text=FORMAT)
        assert check_response(good, negotiated=negotiated)["metadata"]["millrace.check"] == "passed"
        assert sum(event["type"] == "response.output_text.delta" for event in good) == 1
        weak = await client.ask("[weak] a city", text=FORMAT)
    response = check_response(weak, negotiated=negotiated)
    assert response["metadata"]["millrace.route"] == "large"
    assert response["metadata"]["millrace.check"] == "form"
    assert "[weak]" not in text_of(weak)
    assert set(json.loads(text_of(weak))) == {"city", "people"}


async def test_a_cut_off_answer_escalates(millrace: Running) -> None:
    """Finish reason `length` on the small model is a weak answer."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask("talk [tokens=30]", max_output_tokens=10)
    response = check_response(events, negotiated=True)
    assert response["metadata"]["millrace.check"] == "cut_off"
    assert events[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"]["reason"] == "max_output_tokens"
    assert millrace.large.stats.started == 1


async def test_what_fails_after_a_committed_prefix_is_reported_not_replaced(millrace: Running) -> None:
    """The words stand, `millrace.check` names the check, nothing is cached."""
    async with wire_client(millrace.ws_url) as client:
        for _ in range(2):
            events = await client.ask("talk [tokens=90] [rate=400]", max_output_tokens=70)
            response = check_response(events)
            assert response["metadata"]["millrace.check"] == "cut_off"
            assert response["metadata"]["millrace.route"] == "small"
            assert response["metadata"]["millrace.cache"] == "miss"
    assert millrace.large.stats.started == 0


async def test_when_no_model_is_left_it_is_failed(millrace: Running) -> None:
    """The weak small answer was taken back, the large model broke: one failed, both calls on the bill."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await client.ask(f"{HARD[0]} [fault.large=hangup@3]")
    response = check_response(events, negotiated=True)
    assert events[-1]["type"] == "response.failed"
    assert response["error"]["code"] == "upstream_truncated"
    assert len(response["usage"]["attempts"]) == 2


async def test_a_provider_without_usage_is_estimated(millrace: Running) -> None:
    """Counted here, exactly, and marked as an estimate of what the provider will bill."""
    async with wire_client(millrace.ws_url) as client:
        response = check_response(await client.ask("talk [tokens=20] [fault=nousage]", millrace={"strategy": "small"}))
    usage = response["usage"]
    assert usage["estimated"] is True
    assert usage["output_tokens"] == tokens.count(output_of(response))
    assert usage["input_tokens"] == tokens.count("talk [tokens=20] [fault=nousage]") + tokens.MESSAGE + tokens.REPLY


async def test_every_terminal_is_the_last_event(millrace: Running) -> None:
    """Nothing follows: the next event of the connection belongs to the next request."""
    async with wire_client(millrace.ws_url) as client:
        await client.ask("talk [fault.small=hangup]")
        await client.create("hello")
        assert (await client.next())["type"] == "response.created"
        events: list[Event] = await client.until(*TERMINALS)
        assert events[-1]["response"]["status"] == "completed"


def stall(configuration: dict[str, Any]) -> None:
    """Wait for the small model no longer than a moment."""
    configuration["models"]["small"] |= {"stall_timeout_s": 0.3, "first_token_timeout_s": 0.6}


@pytest.mark.parametrize("fault", ["stall@3", "silent"])
async def test_a_silent_model_is_given_up(start: Any, fault: str) -> None:
    """The sweeper finds it: `upstream_timeout`, its socket closed; a cascade goes on to the large model."""
    async with start(stall) as running, wire_client(running.ws_url) as client:
        response = check_response(await client.ask(f"talk [fault={fault}]", millrace={"strategy": "small"}))
        assert response["error"]["code"] == "upstream_timeout"
        await until(lambda: running.small.stats.aborted == 1)
        response = check_response(await client.ask(f"talk [fault.small={fault}]", millrace={"delivery": "commit"}))
        assert response["metadata"]["millrace.route"] == "large"


async def test_absurd_usage_is_a_providers_fault_not_ours(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine quintillion tokens count as many as the model can hold; the request ends, and the next one is answered."""
    counted = shapes.Usage.as_dict
    monkeypatch.setattr(shapes.Usage, "as_dict", lambda self: counted(self) | {"completion_tokens": 2**63 - 1})
    async with wire_client(millrace.ws_url) as client:
        for question in ("hello", "hello again"):
            assert check_response(await client.ask(question))["usage"]["output_tokens"] == 128_000


@pytest.mark.parametrize("negotiated", [False, True])
async def test_a_weak_beginning_is_left_at_once(millrace: Running, *, negotiated: bool) -> None:
    """A few words are enough to see it; the small model is not heard to its end."""
    answer = "I'm not sure. " + "But then again the mill may turn. " * 40
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        with patch.object(answers, "find", lambda _, strength: answer if strength == "weak" else None):
            events = await client.ask("a question [rate.small=400]")
    response = check_response(events, negotiated=negotiated)
    assert response["metadata"]["millrace.check"] == "unsure"
    assert response["metadata"]["millrace.route"] == "large"
    await until(lambda: millrace.small.stats.aborted == 1)
    assert millrace.small.stats.tokens_sent < 150


@pytest.mark.parametrize("strategy", ["small", "large"])
async def test_final_is_one_piece_under_every_strategy(millrace: Running, strategy: str) -> None:
    """Also where no word could be taken back."""
    async with wire_client(millrace.ws_url) as client:
        options = {"strategy": strategy, "delivery": "final"}
        events = await client.ask("talk [tokens=30] [rate=300]", millrace=options)
    check_response(events)
    assert sum(event["type"] == "response.output_text.delta" for event in events) == 1


async def test_a_large_answer_that_fails_a_check_is_shown_and_not_stored(millrace: Running) -> None:
    """Nobody is left to ask; the check is reported, and the next request asks again."""
    with patch.object(answers, "find", lambda *_: "I don't know."):
        async with wire_client(millrace.ws_url) as client:
            for _ in range(2):
                response = check_response(await client.ask("a question", millrace={"strategy": "large"}))
                assert response["status"] == "completed"
                assert response["metadata"]["millrace.check"] == "unsure"
                assert response["metadata"]["millrace.cache"] == "miss"
