"""Where a call fails before its first word, another one is made: where, at what cost, and what clients see of it."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from millrace.errors import Rule, UpstreamError
from millrace.funnel import tries
from millrace.funnel.breaker import FAILURES
from millrace.funnel.ending import Result
from millrace.funnel.facts import Committed, Revised, Routed
from millrace.funnel.pools import RETRIES
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.routing.choice import likely
from millrace.types import (
    Advice,
    Api,
    CacheMode,
    Delivery,
    Format,
    Message,
    Sealed,
    Status,
    Strategy,
    Tier,
    Tool,
)
from tests.support.pooled_models import PooledFunnel, pooled_funnel, stand_in
from tests.support.scripted_models import CATALOG, CUT, SMALL, STOP, request
from tests.support.waiting import PATIENCE_S

DOWN = UpstreamError("upstream_error", "small-model answered HTTP 500", billable=False, cause="answered HTTP 500")
SLOW = UpstreamError("upstream_timeout", "small-model sent no first token within 60 s")
REFUSED = UpstreamError(
    "context_length_exceeded",
    "small-model answered HTTP 400: too long",
    billable=False,
    rule=Rule(400, retry=False, type="invalid_request_error"),
    cause="answered HTTP 400",
)
BAD_KEY = UpstreamError(
    "upstream_error",
    "the provider of small-model refused the key",
    billable=False,
    rule=Rule(502, retry=False, type="upstream_error"),
)
HELLO = ("Hello. ", "How are you?", STOP)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "RETRY_S", 0.001)


def alone(**fields: Any) -> Any:
    return request(strategy=Strategy.SMALL, **fields)


def charges_of(response: ResponseLog) -> list[tuple[str, str, str]]:
    assert response.ended is not None
    return [(each.model, each.deployment, each.outcome.value) for each in response.ended.statement.charges]


def routes_of(response: ResponseLog) -> list[Routed]:
    return [fact for fact in response.facts if isinstance(fact, Routed)]


def text_of(response: ResponseLog) -> str:
    return response.message().text


@pytest.mark.parametrize("delivery", [Delivery.SPECULATE, Delivery.PREFIX, Delivery.COMMIT, Delivery.FINAL])
@pytest.mark.parametrize("error", [DOWN, SLOW, BAD_KEY], ids=["500", "silence", "key"])
async def test_another_deployment_answers(error: UpstreamError, delivery: Delivery) -> None:
    """Nothing was shown, so nobody notices but the route, which says so in a line; each call is a charge."""
    async with pooled_funnel([error], HELLO) as pooled:
        response = await pooled.ask(alone(delivery=delivery))
        assert pooled.calls("small") == [1, 1]
        assert (await pooled.ask(alone(id="resp_2"))).ended is not None
    assert response.ended is not None
    assert (response.ended.status, text_of(response)) == (Status.COMPLETED, "Hello. How are you?")
    assert charges_of(response) == [("small-model", "1", "failed"), ("small-model", "2", "answered")]
    first, second = response.ended.statement.charges
    assert response.ended.statement.cost == first.cost + second.cost
    assert (first.usage.input_tokens > 0) == error.billable
    assert routes_of(response)[-1].reason == f"small-model at 1 failed: {error.cause}; asked at 2"
    assert response.ended.failed == ()
    assert not any(isinstance(fact, Revised) for fact in response.facts)


async def test_each_deployment_is_asked_once_and_then_all_causes_are_told() -> None:
    async with pooled_funnel([BAD_KEY], [SLOW], [DOWN]) as pooled:
        response = await pooled.ask(alone())
        assert pooled.calls("small") == [1, 1, 1]
    assert response.ended is not None
    error = response.ended.error
    assert error is not None
    assert error.message == (
        "small-model at 1: the provider of small-model refused the key; "
        "small-model at 2 sent no first token within 60 s; "
        "small-model at 3 answered HTTP 500"
    )
    assert error.code == "upstream_error"
    assert [outcome for _, _, outcome in charges_of(response)] == ["failed"] * 3


async def test_what_a_request_is_refused_for_is_not_asked_elsewhere() -> None:
    """It would be refused there too. Another model may take it."""
    other = stand_in("other")
    async with pooled_funnel([REFUSED], HELLO, more={other: HELLO}) as pooled:
        response = await pooled.ask(alone())
        assert (pooled.calls("small"), pooled.calls("other")) == ([1, 0], [1])
    assert charges_of(response) == [("small-model", "1", "failed"), ("other-model", "", "answered")]


async def test_a_plain_client_that_has_seen_words_gets_no_others() -> None:
    async with pooled_funnel(["Hel", DOWN], HELLO) as pooled:
        response = await pooled.ask(alone(delivery=Delivery.PREFIX))
        assert pooled.calls("small") == [1, 0]
    assert response.ended is not None
    assert (response.ended.status, text_of(response)) == (Status.FAILED, "Hel")


@pytest.mark.parametrize("delivery", [Delivery.SPECULATE, Delivery.FINAL])
@pytest.mark.parametrize("strategy", [Strategy.SMALL, Strategy.CASCADE])
async def test_words_that_can_be_taken_back_are(delivery: Delivery, strategy: Strategy) -> None:
    """Also those that nobody has seen; in a cascade before the large model is asked."""
    async with pooled_funnel(["Hel", "lo", DOWN], HELLO) as pooled:
        response = await pooled.ask(request(strategy=strategy, delivery=delivery))
        assert (pooled.calls("small"), pooled.calls("large")) == ([1, 1], [0])
    assert response.ended is not None
    assert (response.ended.status, text_of(response)) == (Status.COMPLETED, "Hello. How are you?")
    (revised,) = [fact for fact in response.facts if isinstance(fact, Revised)]
    assert (revised.from_model, revised.to_model, revised.reason) == ("small-model", "small-model", "upstream_error")
    assert [outcome for _, _, outcome in charges_of(response)] == ["failed", "answered"]
    assert response.ended.statement.charges[0].usage.output_tokens == 0  # the provider charges nothing for this one


async def test_the_beginning_of_an_answer_in_place_of_one_that_broke_off_is_judged() -> None:
    """A plain client is shown it as soon as its beginning will do, and a weak one is left at once."""
    unsure = ("I", " don't", " know", ",", " but", " so", STOP)
    async with pooled_funnel(["I", DOWN], ("Two ", "metres, ", "about.", STOP)) as pooled:
        response = await pooled.ask(request(delivery=Delivery.PREFIX))
    assert text_of(response) == "Two metres, about."
    assert response.facts.index(Committed()) < response.facts.index("about.")
    async with pooled_funnel(["I", DOWN], unsure) as pooled:
        response = await pooled.ask(request())
        assert pooled.providers["small"][1].attempts[0].parts != [*unsure[:-1]]
    assert text_of(response) == "Large."


async def test_the_models_of_a_chain_are_asked_in_order() -> None:
    """Of any length. The route names each, and the answer says which model failed."""
    others = [stand_in(name) for name in ("one", "two", "three")]
    async with pooled_funnel([DOWN], more=dict(zip(others, ([SLOW], [DOWN], HELLO), strict=True))) as pooled:
        response = await pooled.ask(alone())
    assert response.ended is not None
    assert (response.ended.model, response.ended.source) == ("three-model", "small")
    assert [model for model, _, _ in charges_of(response)] == ["small-model", "one-model", "two-model", "three-model"]
    assert [route.model for route in routes_of(response)] == ["small-model", "one-model", "two-model", "three-model"]
    assert routes_of(response)[1].reason == "small-model failed: answered HTTP 500; one-model stands in"
    assert response.ended.failed[0].message == "small-model answered HTTP 500"


async def test_a_small_answer_of_one_that_stands_in_is_judged_too() -> None:
    other = stand_in("other")
    async with pooled_funnel([DOWN], more={other: ("I don't know.", STOP)}) as pooled:
        response = await pooled.ask(request())
        assert pooled.calls("large") == [1]
    assert text_of(response) == "Large."
    assert charges_of(response) == [
        ("small-model", "", "failed"),
        ("other-model", "", "revised"),
        ("large-model", "", "answered"),
    ]


async def test_under_auto_the_small_model_answers_where_the_large_one_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large one alone would have been asked. A request that wants it alone fails."""
    long = Message(role="user", parts=("deep " * 40,))
    other = stand_in("other", tier=Tier.LARGE)
    for strategy, status in ((Strategy.AUTO, Status.COMPLETED), (Strategy.LARGE, Status.FAILED)):
        chain = {Tier.LARGE: [other]}
        async with pooled_funnel(HELLO, large=[[DOWN]], more={other: [DOWN]}, chain=chain) as pooled:
            monkeypatch.setattr(pooled.funnel._router, "advise", lambda _: Advice(tier=Tier.LARGE, reason="hard"))
            response = await pooled.ask(request(long, strategy=strategy))
        assert response.ended is not None
        assert response.ended.status is status
        assert [model for model, _, _ in charges_of(response)][:2] == ["large-model", "other-model"]


WEATHER = Tool(name="weather", parameters={"type": "object"})
SEARCH = Tool(name="web_search", hosted=Sealed(api=Api.CHAT, fields={"type": "web_search"}))
THOUGHT = Sealed(api=Api.CHAT, fields={"type": "reasoning"}, maker="small-model")
SAID = (Message(role="user", parts=("a",)), Message(role="assistant", parts=("b",), sealed=(THOUGHT,)))
ASKED = Message(role="user", parts=("How deep is it?",))
NEEDS: dict[str, dict[str, Any]] = {
    "a hosted tool": {"tools": (SEARCH,)},
    "any JSON": {"format": Format(kind="json_object")},
    "its own thoughts": {"prompt_messages": (*SAID, ASKED)},
    "its window": {"input_tokens": 10_000},
}


@pytest.mark.parametrize("need", NEEDS)
async def test_one_that_lacks_what_the_request_needs_is_passed_over(need: str) -> None:
    """The next one answers, which has it."""
    fields = dict(NEEDS[need])
    lacking = stand_in("lacking", api=Api.MESSAGES)
    able = stand_in("able")
    messages = fields.pop("prompt_messages", (ASKED,))
    if need == "its own thoughts":
        able = stand_in("able", id="small-model")
    if need == "its window":
        lacking, messages = stand_in("lacking", context_window=64), (Message(role="user", parts=("deep " * 500,)),)
        fields.clear()
    async with pooled_funnel([DOWN], more={lacking: HELLO, able: ("{}", STOP)}) as pooled:
        await pooled.ask(request(*messages, strategy=Strategy.SMALL, **fields))
        assert (pooled.calls("small"), pooled.calls("lacking"), pooled.calls("able")) == ([1], [0], [1])


async def test_nothing_is_learned_from_one_that_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what a check said of it, nor its words, where the large model answers in the end."""
    results: list[Result] = []
    other = stand_in("other")
    async with pooled_funnel([DOWN], more={other: ("It is 3 x 60 = 190 m deep.", STOP)}) as pooled:
        monkeypatch.setattr(pooled.funnel.sampling, "answer", lambda *told: results.append(told[-1]))
        response = await pooled.ask(request())
    (result,) = results
    assert result.taken_back is None
    assert [tier for tier, _ in result.verdicts] == [Tier.LARGE]
    (revised,) = [fact for fact in response.facts if isinstance(fact, Revised)]
    assert (revised.from_model, revised.to_model) == ("other-model", "large-model")


@pytest.mark.parametrize("strategy", [Strategy.HEDGE, Strategy.RACE])
async def test_whoever_stands_in_is_told_where_calls_may_run_beside_one_another(strategy: Strategy) -> None:
    other = stand_in("other")
    async with pooled_funnel([DOWN], large=[[SLOW]], more={other: HELLO}) as pooled:
        response = await pooled.ask(request(strategy=strategy, hedge_ms=10_000))
    last = routes_of(response)[-1]
    assert (last.model, text_of(response)) == ("other-model", "Hello. How are you?")
    if strategy is Strategy.HEDGE:  # there was no second call
        assert last.reason == "small-model failed: answered HTTP 500; other-model stands in"
        assert [failure.model for failure in last.failed] == ["small-model"]


class Spent:
    """What is reserved for a request of a key whose budget has no more."""

    limits_cost = True

    def __init__(self, reserved: Decimal) -> None:
        self.reserved = reserved

    def reserve_more(self, _cost: Decimal, _tokens: int) -> Decimal:
        return Decimal(0)

    def settle(self, cost: Decimal, tokens: int) -> None:
        self.settled = (cost, tokens)


@pytest.mark.parametrize(("error", "calls"), [(SLOW, [1, 0]), (DOWN, [1, 1])], ids=["charged", "not charged"])
async def test_what_is_reserved_pays_for_one_call(error: UpstreamError, calls: list[int]) -> None:
    """Where one that may be charged has failed, the next one needs as much again."""
    spent = Spent(likely(alone(), CATALOG).cost)
    async with pooled_funnel([error], HELLO) as pooled:
        response = ResponseLog(alone(), asyncio.get_running_loop().time)
        await pooled.funnel.answer(response, spent)
        assert pooled.calls("small") == calls
    assert response.ended is not None
    assert spent.settled[0] == response.ended.statement.cost


async def test_functions_and_schemas_go_anywhere() -> None:
    """All APIs have them."""
    other = stand_in("other", api=Api.MESSAGES)
    schema = Format(kind="json_schema", name="depth", schema={"type": "object"})
    async with pooled_funnel([DOWN], more={other: ("{}", STOP)}) as pooled:
        await pooled.ask(alone(tools=(WEATHER,), format=schema))
        assert pooled.calls("other") == [1]
        (attempt,) = pooled.providers["other"][0].attempts
    assert (attempt.call.prompt.tools, attempt.call.prompt.format) == ((WEATHER,), schema)


async def test_a_budget_is_never_passed_by_those_who_are_asked_next() -> None:
    """What has failed and is charged leaves too little for another call."""
    dear = stand_in("dear", price=SMALL.price.__class__(input=Decimal(1000), output=Decimal(1000)))
    async with pooled_funnel([SLOW], more={dear: HELLO}) as pooled:
        response = await pooled.ask(alone(max_cost=Decimal("0.0001")))
        assert pooled.calls("dear") == [0]
    assert response.ended is not None
    assert response.ended.error is not None
    assert "no first token" in response.ended.error.message
    assert response.ended.statement.cost <= Decimal("0.0001")


async def test_a_deployment_that_keeps_failing_is_not_asked_any_more() -> None:
    async with pooled_funnel([DOWN], HELLO) as pooled:
        for number in range(10 * FAILURES):
            response = await pooled.ask(alone(id=f"resp_{number}"))
            assert response.ended is not None
            assert response.ended.status is Status.COMPLETED
        assert pooled.calls("small")[0] == FAILURES
        (first, _) = pooled.health.pools["small"].places
        assert not first.breaker.is_closed


async def test_where_no_deployment_is_left_a_request_waits_for_nobody() -> None:
    """The large model is asked at once; one that wants the small model alone is told why it cannot be."""
    async with pooled_funnel([DOWN]) as pooled:
        for number in range(FAILURES):
            await pooled.ask(alone(id=f"resp_{number}"))
        cascaded = await pooled.ask(request(strategy=Strategy.AUTO))
        refused = await pooled.ask(alone())
        assert pooled.calls("small") == [FAILURES]
    assert charges_of(cascaded) == [("large-model", "", "answered")]
    (route,) = routes_of(cascaded)
    assert route.reason.startswith("small-model failed: answered HTTP 500, not to be asked until")
    assert refused.ended is not None
    assert refused.ended.error is not None
    assert refused.ended.error.message.startswith("small-model answered HTTP 500, not to be asked until")
    assert (refused.ended.error.retry_after_ms, charges_of(refused)) == (1000, [])


async def test_a_deployment_that_wants_to_be_left_alone_is() -> None:
    """At its first word of it, since there are others."""
    late = UpstreamError(
        "rate_limit_exceeded",
        "small-model answered HTTP 429",
        billable=False,
        rule=Rule(429, retry=True, type="rate_limit_error"),
        retry_after_ms=60_000,
    )
    async with pooled_funnel([late], HELLO, HELLO) as pooled:
        for number in range(20):
            response = await pooled.ask(alone(id=f"resp_{number}"))
            assert response.ended is not None
            assert response.ended.status is Status.COMPLETED
        assert pooled.calls("small")[0] == 1


async def test_retries_do_not_multiply_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where breakers let everything through, at most one request in five is tried once more, after a burst."""
    monkeypatch.setattr("millrace.funnel.breaker.FAILURES", 10**6)
    monkeypatch.setattr("millrace.funnel.breaker.RATE", 2.0)
    async with pooled_funnel([DOWN], [DOWN]) as pooled:
        for number in range(500):
            await pooled.ask(alone(id=f"resp_{number}"))
        calls = sum(pooled.calls("small"))
    assert calls == pytest.approx(500 + RETRIES + 100, abs=3)


async def test_what_evidence_asks_steers_nobody() -> None:
    async with pooled_funnel([DOWN], HELLO) as pooled:
        for number in range(2 * FAILURES):
            await pooled.ask(alone(id=f"resp_{number}", asked_again=True))
        (first, second) = pooled.health.pools["small"].places
        assert first.breaker.is_closed
        assert (first.running, second.running) == (0, 0)
        assert {place.fared.condition for report in pooled.health.reports() for place in report.places} == {"unknown"}


@pytest.mark.parametrize("strategy", [Strategy.RACE, Strategy.HEDGE])
async def test_a_racer_is_asked_at_another_deployment_too(strategy: Strategy) -> None:
    async with pooled_funnel([DOWN], HELLO, large=[[SLOW], [SLOW]]) as pooled:
        response = await pooled.ask(request(strategy=strategy, hedge_ms=10_000))
    assert response.ended is not None
    assert (response.ended.status, text_of(response)) == (Status.COMPLETED, "Hello. How are you?")


async def test_a_cancel_between_two_calls_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked afterwards, and nothing counts as running."""
    monkeypatch.setattr(tries, "RETRY_S", 60.0)
    async with pooled_funnel([DOWN], HELLO) as pooled:
        response = ResponseLog(alone(), asyncio.get_running_loop().time)
        task = asyncio.create_task(pooled.funnel.answer(response))
        async with asyncio.timeout(PATIENCE_S):
            while pooled.health.pools["small"].places[1].running == 0:  # noqa: ASYNC110
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [place.running for place in pooled.health.pools["small"].places] == [0, 0]
        assert pooled.calls("small") == [1, 0]
    assert response.ended is not None
    assert response.ended.status is Status.CANCELLED
    assert charges_of(response) == [("small-model", "1", "failed"), ("small-model", "2", "cancelled")]


async def test_calls_that_wait_for_a_silent_deployment_go_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once when it is found out, and not at the end of their patience. Each is charged for both."""
    monkeypatch.setattr("millrace.funnel.pools.SILENT_S", 0.05)
    async with pooled_funnel([CUT], HELLO) as pooled:
        pool = pooled.health.pools["small"]
        for number in range(20):
            await pooled.ask(alone(id=f"warm_{number}"))
        silent, _ = pool.places
        _silence(pooled)
        requests = [alone(id=f"resp_{number}", cache=CacheMode.OFF) for number in range(8)]
        asked = [asyncio.create_task(pooled.ask(each)) for each in requests]
        async with asyncio.timeout(PATIENCE_S):
            while not all(task.done() for task in asked):
                await asyncio.sleep(0.02)
                pooled.health.sweep(asyncio.get_running_loop().time())
        assert not silent.breaker.is_closed
        assert silent.waiting == {}
    responses = [task.result() for task in asked]
    assert {text_of(response) for response in responses} == {"Hello. How are you?"}
    moved = [charges_of(response) for response in responses if len(charges_of(response)) > 1]
    assert moved
    assert all(each == [("small-model", "1", "failed"), ("small-model", "2", "answered")] for each in moved)
    pooled.health.close()


async def test_a_call_that_waits_where_others_fail_goes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone is not enough to call a deployment silent, but that is left alone already."""
    monkeypatch.setattr("millrace.funnel.pools.SILENT_S", 0.05)
    async with pooled_funnel(HELLO, HELLO) as pooled:
        for number in range(20):
            await pooled.ask(alone(id=f"warm_{number}"))
        _silence(pooled)
        first, _ = pooled.health.pools["small"].places
        task = asyncio.create_task(pooled.ask(alone(id="resp", cache=CacheMode.OFF)))
        async with asyncio.timeout(PATIENCE_S):
            while not task.done():
                await asyncio.sleep(0.02)
                if first.waiting and first.breaker.is_closed:
                    first.breaker.open("stopped in mid-stream", 60)
                pooled.health.sweep(asyncio.get_running_loop().time())
    assert text_of(task.result()) == "Hello. How are you?"
    assert [deployment for _, deployment, _ in charges_of(task.result())] in (["1", "2"], ["2"])


def _silence(pooled: PooledFunnel) -> None:
    """Have the first deployment take calls and say nothing."""
    provider = pooled.providers["small"][0]
    opened = provider.open

    def open_silent(call: Any) -> Any:
        attempt = opened(call)
        attempt.pause()
        return attempt

    provider.open = open_silent  # type: ignore[method-assign]


async def test_a_call_that_cannot_be_made_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in the middle of it must not have it wait for ever."""
    async with pooled_funnel([DOWN], HELLO) as pooled:
        monkeypatch.setattr(pooled.providers["small"][1], "open", None)
        async with asyncio.timeout(PATIENCE_S):
            response = await pooled.ask(alone())
    assert response.ended is not None
    assert response.ended.error is not None
    assert response.ended.error.code == "internal_error"


async def test_one_that_leaves_between_two_calls_owes_the_first_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another request rides along, and pays for the call that answers both."""
    monkeypatch.setattr(tries, "RETRY_S", 0.5)
    monkeypatch.setattr("millrace.funnel.tries.random.uniform", lambda _, most: most)
    async with pooled_funnel([SLOW], HELLO) as pooled:
        second_place = pooled.health.pools["small"].places[1]
        logs = [ResponseLog(alone(id=f"resp_{number}"), asyncio.get_running_loop().time) for number in (1, 2)]
        first, second = (asyncio.create_task(pooled.funnel.answer(response)) for response in logs)
        async with asyncio.timeout(PATIENCE_S):
            while second_place.running == 0:  # noqa: ASYNC110
                await asyncio.sleep(0)
            first.cancel()
            await second
        assert pooled.calls("small") == [1, 1]
        assert second_place.running == 0
    left, stayed = logs
    assert charges_of(left) == [("small-model", "1", "failed"), ("small-model", "2", "cancelled")]
    assert charges_of(stayed) == [("small-model", "2", "answered")]
    assert left.ended is not None
    assert left.ended.statement.charges[0].usage.input_tokens > 0
    assert left.ended.statement.charges[1].usage.output_tokens == 0
    assert text_of(stayed) == "Hello. How are you?"
