"""A cancel while a model of chat completions thinks or calls a tool: its socket is closed at once, and it is billed."""

import asyncio

import pytest

from tests.support.any_model import Said, any_model
from tests.support.chat_server import ChatServer
from tests.support.server import AT_ONCE_S, configuration_for, serving
from tests.support.waiting import PATIENCE_S, until, within
from tests.support.wire_client import TERMINALS, wire_client

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
SAID = Said(thought="Let me see.", calls=(("weather", {"city": "a long name of a town"}),))
MOMENTS = {"before the first token": 1, "in reasoning": 2, "in a tool call": -1}  # the number of the chunk that waits


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cancel_closes_the_socket_and_is_billed(moment: str) -> None:
    """As estimated, since the provider reports nothing of an answer that it has not ended."""
    async with any_model("openai", SAID) as model, serving(configuration_for(model.url, model.url)) as url:
        assert isinstance(model, ChatServer)
        chunks = len(model.turn({}))
        model.pause_before = MOMENTS[moment] % chunks
        async with wire_client(url.replace("http", "ws", 1)) as client:
            await client.create("Weather?", model="small", tools=[WEATHER])
            created = await client.next()
            await asyncio.wait_for(model.begun.wait(), PATIENCE_S)
            await asyncio.sleep(0.05)  # until Millrace has read it
            async with within(AT_ONCE_S):
                await client.send({"type": "response.cancel", "response_id": created["response"]["id"]})
                await until(lambda: model.left_at is not None)
            response = (await client.until(*TERMINALS))[-1]["response"]
    usage = response["usage"]
    assert (response["status"], usage["estimated"], usage["cost_usd"] > 0) == ("cancelled", True, True)
    assert (usage["output_tokens"] > 0) == (moment != "before the first token")
