"""The stock openai-python, unmodified, over `responses.connect()`: only its base URL is changed."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI, NotFoundError
from openai.lib.responses_websocket import AsyncResponsesWebSocketSession, ResponsesWebSocketLimits
from openai.resources.responses.responses import AsyncResponsesConnection

from tests.support.server import Running

LIMITS = ResponsesWebSocketLimits(
    max_lanes=20, max_events_per_lane=4096, max_events=65536, max_bytes_per_lane=2**24, max_bytes=2**26
)


@pytest.fixture
async def connection(millrace: Running) -> AsyncIterator[AsyncResponsesConnection]:
    async with (
        AsyncOpenAI(base_url=f"{millrace.url}/v1", api_key="ignored") as client,
        client.responses.connect() as connection,
    ):
        yield connection


async def test_one_request(connection: AsyncResponsesConnection) -> None:
    """The final text equals the joined deltas; cost and marks are readable on the stock objects."""
    await connection.send({"type": "response.create", "model": "gpt-4o-mini", "input": "x"})
    async for event in connection:
        assert event.type == "error"
        break
    await connection.response.create(model="auto", input="What is the capital of France?")
    deltas = []
    async for event in connection:
        if event.type == "response.output_text.delta":
            deltas.append(event.delta)
        elif event.type == "response.completed":
            response = event.response
            break
        else:
            assert event.type not in ("error", "response.failed", "response.incomplete")
    assert "".join(deltas) == response.output_text
    assert "Paris" in response.output_text
    assert response.usage is not None
    assert response.usage.total_tokens > 0
    assert response.usage.model_extra is not None
    assert response.usage.model_extra["cost_usd"] > 0
    assert response.metadata is not None
    assert response.metadata["millrace.route"] == "small"


async def test_two_lanes_interleaved(connection: AsyncResponsesConnection) -> None:
    """The SDK's own lanes, two answers at once, each whole."""
    async with AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session:
        lanes = [session.lane(name) for name in ("one", "two")]
        for number, lane in enumerate(lanes):
            await lane.send(
                {"type": "response.create", "model": "small", "input": f"talk {number} [tokens=30] [rate=200]"}
            )

        async def read(name: int) -> tuple[str, str]:
            joined = ""
            while True:
                event = await lanes[name].recv()
                if event.type == "response.output_text.delta":
                    order.append(name)
                    joined += event.delta
                elif event.type == "response.completed":
                    return joined, event.response.output_text

        order: list[int] = []
        for joined, final in await asyncio.gather(read(0), read(1)):
            assert joined == final
            assert final
        assert sum(one != other for one, other in itertools.pairwise(order)) > 5


async def test_fifty_requests_over_sixteen_lanes(connection: AsyncResponsesConnection) -> None:
    """One connection, the SDK's managed session, its final-response collection."""
    async with AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session:

        async def work(number: int) -> list[str]:
            lane = session.lane(f"lane-{number}")
            texts = []
            for turn in range(number, 50, 16):
                await lane.send({"type": "response.create", "model": "auto", "input": f"say {turn} [tokens=20]"})
                response = await lane.get_final_response()
                assert response.status == "completed"
                texts.append(response.output_text)
            return texts

        answers = await asyncio.gather(*(work(number) for number in range(16)))
        assert sum(map(len, answers)) == 50
        assert all(text for texts in answers for text in texts)


async def test_an_escalation_is_invisible(connection: AsyncResponsesConnection) -> None:
    """A stock client never reads a word that is taken back."""
    await connection.response.create(model="auto", input="Prove that the square root of 2 is irrational.")
    deltas = []
    async for event in connection:
        assert not event.type.startswith("millrace.")
        if event.type == "response.output_text.delta":
            deltas.append(event.delta)
        elif event.type == "response.completed":
            assert "".join(deltas) == event.response.output_text
            assert event.response.metadata is not None
            assert event.response.metadata["millrace.route"] == "large"
            break


async def test_reasoning_over_http_is_what_the_sdk_knows(millrace: Running) -> None:
    """As typed events of a summary, which is what its users read."""
    async with AsyncOpenAI(base_url=f"{millrace.url}/v1/", api_key="ignored") as client:
        async with client.responses.stream(
            model="small", input="Why? [reason=9]", reasoning={"summary": "auto"}
        ) as stream:
            words = [event.delta async for event in stream if event.type == "response.reasoning_summary_text.delta"]
            response = await stream.get_final_response()
        (item,) = [item for item in response.output if item.type == "reasoning"]
        assert [part.text for part in item.summary] == ["".join(words)]
        assert words


async def test_what_the_sdk_looks_up(millrace: Running) -> None:
    """A model by its name, and the input of a response."""
    async with AsyncOpenAI(base_url=f"{millrace.url}/v1/", api_key="ignored") as client:
        assert (await client.models.retrieve("large")).id == "large"
        with pytest.raises(NotFoundError):
            await client.models.retrieve("nope")
        response = await client.responses.create(model="small", input="Hello")
        items = [item async for item in await client.responses.input_items.list(response.id, order="asc", limit=1)]
        assert [item.type for item in items] == ["message"]
        again = await client.responses.create(
            model="small", input=[{"type": "item_reference", "id": items[0].id or ""}, {"role": "user", "content": "?"}]
        )
        assert again.status == "completed"
        many = [item async for item in await client.responses.input_items.list(again.id, limit=1)]
        assert [item.type for item in many] == ["message", "message"]
