"""Stop, and being gone: the upstream's socket closes at once, the cost is settled once, the others go on."""

from typing import Any

import pytest

from tests.support.server import AT_ONCE_S, Running
from tests.support.waiting import until, within
from tests.support.wire_client import TERMINALS, Event, check_response, text_of, wire_client


@pytest.mark.parametrize("named", ["response", "lane", "default lane"])
@pytest.mark.parametrize("moment", ["before the first token", "in mid-stream"])
@pytest.mark.parametrize("negotiated", [False, True])
async def test_cancel(millrace: Running, named: str, moment: str, *, negotiated: bool) -> None:
    """One terminal with usage and cost, the upstream aborted within 250 ms, and the connection goes on."""
    lane = {} if named == "default lane" else {"stream_id": "a"}
    pace = "[ttft=30]" if moment == "before the first token" else "[rate=200] [tokens=5000]"
    async with wire_client(millrace.ws_url, negotiated=negotiated) as client:
        await client.create(f"talk {pace}", **lane)
        events = [await client.next()]
        if moment == "in mid-stream":
            while len(text_of(events)) == 0:
                events.append(await client.next())
        await until(lambda: millrace.small.stats.running == 1)
        target = {"response_id": events[0]["response"]["id"]} if named == "response" else lane
        async with within(AT_ONCE_S):
            await client.send({"type": "response.cancel", **target})
            await until(lambda: millrace.small.stats.aborted == 1)
        events += await client.until(*TERMINALS)
        response = check_response(events, negotiated=negotiated)
        assert events[-1]["type"] == "response.incomplete"
        assert response["status"] == "cancelled"
        assert response["incomplete_details"] == {"reason": "cancelled"}
        usage = response["usage"]
        assert usage["estimated"] is True
        assert usage["cost_usd"] > 0
        assert (usage["output_tokens"] > 0) == (moment == "in mid-stream")
        assert not any(event["type"].endswith(".done") for event in events)
        check_response(await client.ask("What is the capital of France?", **lane), negotiated=negotiated)
    assert millrace.large.stats.started == 0


async def test_cancelling_a_lane_ends_what_waits_in_it_too(millrace: Running) -> None:
    """A queued request still gets its beginning and its end, at no cost; no model is asked for it."""
    async with wire_client(millrace.ws_url) as client:
        for _ in range(3):
            await client.create("wait [ttft=30]", stream_id="a")
        await client.create("other [ttft=0.3]", stream_id="b")
        await until(lambda: millrace.small.stats.running == 2)
        await client.send({"type": "response.cancel", "stream_id": "a"})
        events: list[Event] = []
        while sum(event["type"] in TERMINALS for event in events) < 4:
            events.append(await client.next())
    statuses = [event["response"]["status"] for event in events if event["type"] in TERMINALS]
    assert statuses == ["cancelled", "cancelled", "cancelled", "completed"]
    lane = [event for event in events if event["stream_id"] == "a"]
    for _ in range(3):  # whole, and one after the other
        end = next(at for at, event in enumerate(lane) if event["type"] in TERMINALS) + 1
        check_response(lane[:end])
        lane = lane[end:]
    created = [event for event in events if event["type"] == "response.created"]
    assert len({event["response"]["id"] for event in created}) == 4
    costs = [event["response"]["usage"]["cost_usd"] for event in events if event["type"] in TERMINALS]
    assert sum(cost == 0 for cost in costs) == 2
    assert millrace.calls == 2


async def test_a_queued_request_can_be_cancelled_alone(millrace: Running) -> None:
    """The one before it goes on."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("first [ttft=0.3]", stream_id="a")
        await client.create("second", stream_id="a")
        await client.create("third", stream_id="a")
        created = await client.next()
        await client.send({"type": "response.cancel", "response_id": created["response"]["id"]})
        terminals: list[str] = []
        while len(terminals) < 3:
            event = await client.next()
            if event["type"] in TERMINALS:
                terminals.append(event["response"]["status"])
    assert terminals == ["cancelled", "completed", "completed"]


async def test_a_cancel_sent_with_its_request_is_honoured(millrace: Running) -> None:
    """Even before the request's task has run its first step."""
    async with wire_client(millrace.ws_url) as client:
        await client.create("x [ttft=30]", stream_id="a")
        await client.send({"type": "response.cancel", "stream_id": "a"})
        response = check_response(await client.until(*TERMINALS))
        assert response["status"] == "cancelled"
    await until(lambda: millrace.small.stats.running == 0)


async def test_cancelling_what_has_ended_says_nothing(millrace: Running) -> None:
    """Cancel is idempotent; the lane's next request is untouched."""
    async with wire_client(millrace.ws_url) as client:
        response = check_response(await client.ask("hello"))
        await client.send({"type": "response.cancel", "response_id": response["id"]})
        await client.send({"type": "response.cancel"})
        events = await client.ask("hello again")
        assert check_response(events)["status"] == "completed"


@pytest.mark.parametrize("pace", ["[ttft=30]", "[rate=200] [tokens=5000]"])
async def test_a_dropped_connection_aborts_as_fast(millrace: Running, pace: str) -> None:
    """Disconnect is cancel by default, orderly or not."""
    async with wire_client(millrace.ws_url) as client:
        await client.create(f"talk {pace}", stream_id="a")
        await client.create(f"talk too {pace}", stream_id="b")
        await until(lambda: millrace.small.stats.running == 2)
        async with within(AT_ONCE_S):
            client.connection.transport.abort()
            await until(lambda: millrace.small.stats.aborted == 2)
    assert millrace.small.stats.running == 0


@pytest.mark.parametrize("strategy", ["cascade", "large"])
async def test_cancelling_the_large_model_after_an_escalation(millrace: Running, strategy: str) -> None:
    """Both calls are on the bill; the one that ran is aborted."""
    async with wire_client(millrace.ws_url, negotiated=True) as client:
        await client.create("[weak] x [tokens.large=3000] [rate.large=100]", millrace={"strategy": strategy})
        events: list[dict[str, Any]] = []
        while not any(event["type"] == "response.output_text.delta" for event in events[-1:]) or (
            millrace.large.stats.tokens_sent < 3
        ):
            events.append(await client.next())
        await client.send({"type": "response.cancel"})
        events += await client.until(*TERMINALS)
    response = check_response(events, negotiated=True)
    assert response["metadata"]["millrace.route"] == "large"
    await until(lambda: millrace.large.stats.aborted == 1)
    assert response["usage"]["cost_usd"] > 0
