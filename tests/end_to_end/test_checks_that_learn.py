"""A check that flags right answers is switched off by what was judged, and the report says so."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from tests.support.chat_server import USAGE, Fields, chunk, completing
from tests.support.server import configuration_for, serving
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import wire_client

EACH = 40  # questions of each kind
SAID = "It is {} metres tall and was built by two brothers of the miller"


def answering(is_small: bool) -> Any:
    """Return a model. The small one ends odd answers with a comma, but is right there; every fourth is wrong."""

    def turn(body: Fields) -> list[Fields]:
        number = int(body["messages"][-1]["content"].split()[2])
        is_wrong = number % 4 == 0
        end = "," if is_small and number % 2 else "."
        return [chunk(content=SAID.format(15 if is_wrong and not is_small else 12) + end), chunk("stop", USAGE)]

    return turn


async def test_a_check_that_flags_right_answers_is_switched_off_and_the_report_says_so() -> None:
    async with AsyncExitStack() as parts:
        small, large = [await parts.enter_async_context(completing(answering(each))) for each in (True, False)]
        configuration = configuration_for(small.url, large.url)
        configuration["evidence"] = {"judged": True, "small_share": 1, "large_share": 0, "dollars_per_day": "100"}
        url = await parts.enter_async_context(serving(configuration))
        client = await parts.enter_async_context(wire_client(url.replace("http", "ws", 1), negotiated=True))
        session = await parts.enter_async_context(aiohttp.ClientSession())

        async def ask(number: int) -> tuple[str, str]:
            options = {"strategy": "cascade", "cache": "off"}
            events = await client.ask(f"Question number {number} : how tall is the tower ?", millrace=options)
            metadata = events[-1]["response"]["metadata"]
            return metadata["millrace.route"], metadata["millrace.check"]

        assert await ask(1) == ("large", "unfinished")
        for number in range(2, 4 * EACH):
            await ask(number)
        number, kept = 1, ("large", "unfinished")
        async with asyncio.timeout(PATIENCE_S):
            while kept != ("small", "passed"):
                await asyncio.sleep(0.1)
                kept = await ask(number)
                number += 2
        async with session.get(f"{url}/v1/evidence") as answer:
            report = await answer.json()
    (shown,) = [each for each in report["checks"] if each["check"] == "unfinished"]
    assert shown["off"] == ["anonymous"]
    assert shown["catch"]["estimate"] == 0.0
    assert shown["false_alarms"]["lower"] > 0.5
    assert shown["needless"]["judged"] > 0
    silent = {each["check"]: each for each in report["checks"]}["hedging"]
    assert (silent["catch"]["estimate"], silent["needless"]["judged"]) == (0.0, 0)
