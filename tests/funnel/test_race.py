"""Race and hedge: the first meaningful word wins, the loser's socket closes at once, both charges are on the bill."""

from typing import Any
from unittest.mock import patch

import pytest

from millrace.simulator import answers
from tests.support.server import Running
from tests.support.waiting import until, within
from tests.support.wire_client import TERMINALS, Event, check_response, output_of, wire_client

AT_ONCE_S = 0.25


def attempts_of(events: list[Event]) -> dict[str, Event]:
    """Return model -> attempt of a terminal."""
    return {attempt["model"]: attempt for attempt in events[-1]["response"]["usage"]["attempts"]}


async def race(client: Any, prompt: str, **options: Any) -> list[Event]:
    events: list[Event] = await client.ask(prompt, millrace={"strategy": "race", **options})
    check_response(events, negotiated=True)
    return events


@pytest.mark.parametrize(
    ("pace", "grace_ms", "winner"),
    [
        ("[ttft.small=0.05] [ttft.large=3]", 100, "small"),
        ("[ttft.small=3] [ttft.large=0.05]", 0, "large"),
        ("[ttft.small=0.05] [ttft.large=0.25]", 2000, "large"),
        ("[ttft.small=0.05] [ttft.large=2]", 0, "small"),
    ],
)
async def test_the_first_word_wins_and_large_within_the_grace(
    millrace: Running, pace: str, grace_ms: int, winner: str
) -> None:
    """Both are started, the loser is aborted within 250 ms of the decision, and its cost is booked."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        await client.create(f"talk [tokens=200] [rate=100] {pace}", millrace={"strategy": "race", "grace_ms": grace_ms})
        events = await client.until("response.output_text.delta")
        lost = millrace.large if winner == "small" else millrace.small
        async with within(AT_ONCE_S):
            await until(lambda: lost.stats.aborted == 1)
        events += await client.until(*TERMINALS)
    response = check_response(events, negotiated=True)
    assert response["metadata"]["millrace.route"] == winner
    routes = [event for event in events if event["type"] == "millrace.route"]
    assert [route["tier"] for route in routes] == ["small", winner]
    assert routes[1]["reason"].startswith("won the race")
    attempts = attempts_of(events)
    assert {name: attempt["outcome"] for name, attempt in attempts.items()} == {
        f"{winner}-model": "answered",
        f"{'large' if winner == 'small' else 'small'}-model": "lost",
    }
    assert all(attempt["cost_usd"] > 0 for attempt in attempts.values())
    assert (millrace.small.stats.started, millrace.large.stats.started) == (1, 1)
    assert response["usage"]["output_tokens"] == 200


async def test_a_weak_winner_is_taken_back(millrace: Running) -> None:
    """A small winner is judged like any other: a weak one is taken back, and large is asked anew."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await race(client, "[weak] x [ttft.large=1]", grace_ms=0)
    response = events[-1]["response"]
    assert response["metadata"]["millrace.route"] == "large"
    assert sum(event["type"] == "millrace.revise" for event in events) == 1
    outcomes = [attempt["outcome"] for attempt in response["usage"]["attempts"]]
    assert sorted(outcomes) == ["answered", "lost", "revised"]


@pytest.mark.parametrize("fault", ["error", "429", "hangup@0", "end@0"])
@pytest.mark.parametrize("broken", ["small", "large"])
@pytest.mark.parametrize("strategy", ["race", "hedge"])
async def test_one_that_fails_has_lost(millrace: Running, fault: str, broken: str, strategy: str) -> None:
    """The other one answers; a refusal before the first word costs nothing."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        options = {"strategy": strategy, "grace_ms": 5000, "hedge_ms": 30}
        other = "large" if broken == "small" else "small"
        events = await client.ask(f"talk [ttft.{other}=1] [fault.{broken}={fault}]", millrace=options)
    response = check_response(events, negotiated=True)
    assert response["status"] == "completed"
    assert response["metadata"]["millrace.route"] == other
    failed = attempts_of(events)[f"{broken}-model"]
    assert failed["outcome"] == "failed"
    assert (failed["cost_usd"] == 0) == (fault in ("error", "429"))


async def test_when_both_fail_it_is_failed(millrace: Running) -> None:
    """With the large model's error."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await race(client, "talk [fault.small=error] [fault.large=overloaded]")
    assert events[-1]["response"]["error"]["code"] == "upstream_overloaded"


async def test_a_hedge_starts_large_only_when_small_is_late(millrace: Running) -> None:
    """A small model in time is alone; a late one has company."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        options = {"strategy": "hedge", "hedge_ms": 5000}
        events = await client.ask("talk [ttft=0.01]", millrace=options)
        assert check_response(events, negotiated=True)["metadata"]["millrace.route"] == "small"
        assert millrace.large.stats.started == 0
        options["hedge_ms"] = 400
        late = await client.ask("talk [ttft.small=5] [ttft.large=0.05]", millrace=options)
    assert check_response(late, negotiated=True)["metadata"]["millrace.route"] == "large"
    assert attempts_of(late)["small-model"]["outcome"] == "lost"


@pytest.mark.parametrize("moment", ["before a word", "after the first"])
async def test_cancelling_a_race_stops_both(millrace: Running, moment: str) -> None:
    """Nothing runs on; both calls are on the bill."""
    pace = "[ttft=30]" if moment == "before a word" else "[ttft.small=0.02] [ttft.large=30] [tokens=900] [rate=100]"
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        await client.create(f"talk {pace}", millrace={"strategy": "race", "grace_ms": 0})
        await until(lambda: millrace.small.stats.started + millrace.large.stats.started == 2)
        events = await client.until("millrace.route" if moment == "before a word" else "response.output_text.delta")
        await client.send({"type": "response.cancel"})
        events += await client.until(*TERMINALS)
        await until(lambda: millrace.small.stats.running + millrace.large.stats.running == 0)
    response = check_response(events, negotiated=True)
    assert response["status"] == "cancelled"
    assert len(response["usage"]["attempts"]) == 2


async def test_a_plain_client_sees_one_models_words(millrace: Running) -> None:
    """Whoever wins, its deltas are the whole output."""
    async with wire_client(millrace.ws_url) as client:
        events = await client.ask("talk [ttft.large=1]", millrace={"strategy": "race", "grace_ms": 0})
    assert output_of(check_response(events))


@pytest.mark.parametrize("words", ["", " \n\n "])
async def test_white_space_is_not_a_word(millrace: Running, words: str) -> None:
    """A small model that has nothing to say is out, however quickly it says so; large is not asked twice."""
    with patch.object(answers, "find", lambda _, strength: words if strength == "weak" else "Yes."):
        async with wire_client(millrace.ws_url, negotiated=True) as client:
            events = await race(client, "a question [ttft.large=0.3]", grace_ms=0)
    assert output_of(events[-1]["response"]) == "Yes."
    assert millrace.large.stats.started == 1
    assert [event["type"] for event in events].count("millrace.revise") == 0


async def test_one_that_breaks_within_the_grace_is_out(millrace: Running) -> None:
    """The large model that was about to speak goes on; it is not closed and asked again."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        events = await race(
            client, "talk [tokens=20] [rate.small=50] [fault.small=reset@1] [ttft.large=0.5]", grace_ms=5000
        )
    assert events[-1]["response"]["metadata"]["millrace.route"] == "large"
    assert millrace.large.stats.started == 1


async def test_the_terminal_of_a_cancelled_race_is_the_winners(millrace: Running) -> None:
    """Model, route and tokens are those of the words that were shown, not of the loser."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        options = {"strategy": "race", "grace_ms": 0}
        await client.create("talk [ttft.small=0.02] [ttft.large=30] [tokens=900] [rate=100]", millrace=options)
        events = await client.until("response.output_text.delta")
        while sum(event["type"] == "response.output_text.delta" for event in events) < 5:
            events.append(await client.next())
        await client.send({"type": "response.cancel"})
        events += await client.until(*TERMINALS)
    response = check_response(events, negotiated=True)
    assert (response["model"], response["metadata"]["millrace.route"]) == ("small-model", "small")
    assert response["usage"]["output_tokens"] > 2
    assert {name: attempt["outcome"] for name, attempt in attempts_of(events).items()} == {
        "small-model": "cancelled",
        "large-model": "lost",
    }
