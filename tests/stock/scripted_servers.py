"""Stock SDKs of providers against the scripted servers that stand for these providers in other tests."""

import asyncio

from tests.stock.scenarios import SCRIPTED, Result, Scenario, run as run_one
from tests.support import messages_wire as wire
from tests.support.messages_server import RefusedError, messaging
from tests.support.messages_wire import Answer, Fields

SEARCH, FOUND = wire.server_tool_use("web_search", {"query": "rivers"})
CITATION = {
    "type": "char_location",
    "cited_text": "wet",
    "document_index": 0,
    "document_title": None,
    "file_id": None,
    "start_char_index": 0,
    "end_char_index": 3,
}
EVERYTHING = (
    wire.thinking("Hm ö, let me see."),
    wire.redacted(),
    wire.text("I look it up."),
    SEARCH,
    FOUND,
    wire.text("It is wet.", CITATION),
    wire.tool_use("get_weather", {"city": "Zürich"}, "toolu_1"),
    wire.tool_use("now", {}, "toolu_2"),
)
CALLS = (wire.thinking("I look it up."), wire.tool_use("get_weather", {"city": "Paris"}))
REFUSED = {
    "rate_limit_error": RefusedError("Slower", 429, "rate_limit_error", retry_after="7"),
    "overloaded_error": RefusedError("Overloaded", 529, "overloaded_error"),
}


def turn(body: Fields) -> Answer:
    """Answer as the name of the model says."""
    if (refused := REFUSED.get(body["model"])) is not None:
        raise refused
    match body["model"]:
        case "two_turns" if len(body["messages"]) == 1:
            return Answer(content=CALLS, stop_reason="tool_use")
        case "two_turns":
            return Answer(content=(wire.text("It is warm."),))
        case "broken":
            return Answer(content=(wire.text("It"),), error={"type": "overloaded_error", "message": "Overloaded"})
    return Answer(content=EVERYTHING, stop_reason="tool_use")


async def results(scenarios: tuple[Scenario, ...] = SCRIPTED) -> list[Result]:
    """Run the programs one after the other."""
    async with messaging(turn) as server:
        return [await run_one(scenario, server.url) for scenario in scenarios]


def run(scenarios: tuple[Scenario, ...] = SCRIPTED) -> list[Result]:
    """Run them in a loop of their own."""
    return asyncio.run(results(scenarios))
