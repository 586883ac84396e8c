"""Stock clients with a Millrace in front of models of each API: what they ask must go round with all of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from millrace.simulator import LARGE, Simulator
from tests.stock.scenarios import EVERY_API, Result, Scenario, run as run_one
from tests.support import messages_wire, responses_wire
from tests.support.messages_server import messaging
from tests.support.responses_server import responding
from tests.support.server import configuration_for, serving, without_delays

Fields = dict[str, Any]
CALL = '{"city": "Paris"}'


def of_messages(body: Fields) -> messages_wire.Answer:
    """Call the tool; answer in words once there is a result."""
    thought = messages_wire.thinking("Let me see.")
    if any(block["type"] == "tool_result" for block in body["messages"][-1]["content"]):
        return messages_wire.Answer(content=(thought, messages_wire.text("It is warm.")))
    call = messages_wire.tool_use("get_weather", json.loads(CALL))
    return messages_wire.Answer(content=(thought, call), stop_reason="tool_use")


def of_responses(body: Fields) -> responses_wire.Answer:
    """Do the same."""
    thought = responses_wire.reasoning("Let me see.")
    if body["input"][-1]["type"] == "function_call_output":
        return responses_wire.Answer(items=(thought, responses_wire.message("It is warm.")))
    return responses_wire.Answer(items=(thought, responses_wire.function_call("get_weather", CALL)))


@asynccontextmanager
async def gateways() -> AsyncIterator[tuple[dict[str, str], list[list[str]]]]:
    """Run a server for each API; yield their addresses, and what their models have refused."""
    async with AsyncExitStack() as stack:
        anthropic = await stack.enter_async_context(messaging(of_messages))
        responses = await stack.enter_async_context(responding(of_responses))
        chat = await stack.enter_async_context(Simulator(without_delays(LARGE)))
        urls: dict[str, str] = {}
        models = {"anthropic": anthropic.url, "responses": responses.url, "openai": chat.base_url}
        for upstream, url in models.items():
            configuration = configuration_for(url, url) | {"cache": {"exact": False, "semantic": False}}
            for model in configuration["models"].values():
                model |= {"upstream": upstream, "context_window": 200_000}
            urls[upstream] = await stack.enter_async_context(serving(configuration))
        yield urls, [anthropic.refused, responses.refused]


async def results(scenarios: tuple[Scenario, ...] = EVERY_API) -> list[Result]:
    """Run the programs; each meets every API. Nothing may be refused by a model."""
    async with gateways() as (urls, refused):
        ended = [await run_one(scenario, urls["openai"], {"APIS": json.dumps(urls)}) for scenario in scenarios]
        assert refused == [[], []]
        return ended


def run(scenarios: tuple[Scenario, ...] = EVERY_API) -> list[Result]:
    """Run them in a loop of their own."""
    return asyncio.run(results(scenarios))
