"""What the caches learn through the wire: a wrong answer is found and gone, and other words come to be known."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.chat_server import USAGE, Fields, chunk, completing
from tests.support.server import configuration_for, serving
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import WireClient, output_of, wire_client

ASKED = "How do I reset my router?"
NEAR = (
    "How can I reset my router?",
    "how do i reset my router",
    "How can I reset my router",
    "how can i reset my router?",
)
FAR = "How do I factory reset my router?"
WRONG, RIGHT = "Hold the reset button for 90 seconds.", "Hold the reset button for 10 seconds."
PAUSE_S = 0.02  # between two questions
LATE_S = 5.0  # without a judgement, after which a question was not looked up in time


@dataclass
class Model:
    """A model that says what it is told to."""

    says: str
    asked: Counter[str] = field(default_factory=Counter)

    def turn(self, body: Fields) -> list[Fields]:
        """Answer."""
        self.asked[body["messages"][-1]["content"]] += 1
        return [chunk(content=self.says), chunk("stop", USAGE)]


@dataclass(frozen=True, slots=True)
class Place:
    """A server, and whoever asks it."""

    url: str
    client: WireClient
    session: aiohttp.ClientSession

    async def ask(self, question: str) -> tuple[str, str]:
        """Return the answer, and which cache gave it."""
        response = (await self.client.ask(question, model="small"))[-1]["response"]
        return output_of(response), response["metadata"]["millrace.cache"]

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as answer:
            assert answer.status == 200
            return await answer.json()

    async def judged(self, lever: str, count: int, within_s: float = PATIENCE_S) -> Any:
        """Return what is known of a lever, once so many are judged."""
        async with asyncio.timeout(within_s):
            while (found := (await self.get("/v1/evidence"))[lever])["judged"] < count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return found

    async def delete(self, question: str) -> None:
        """Delete what is stored for a question."""
        found = (await self.get(f"/v1/cache/entries?query={question}"))["data"]
        (entry_id,) = [each["id"] for each in found if each["question"] == question]
        async with self.session.delete(f"{self.url}/v1/cache/entries/{entry_id}") as answer:
            assert answer.status == 200


@asynccontextmanager
async def place(model: Model) -> AsyncIterator[Place]:
    async with AsyncExitStack() as parts:
        small, large = [await parts.enter_async_context(completing(model.turn)) for _ in range(2)]
        configuration = configuration_for(small.url, large.url)
        configuration["evidence"] = {"judged": True, "hit_share": 0.1, "small_share": 0, "large_share": 0}
        url = await parts.enter_async_context(serving(configuration))
        client = await parts.enter_async_context(wire_client(url.replace("http", "ws", 1), negotiated=True))
        yield Place(url, client, await parts.enter_async_context(aiohttp.ClientSession()))


async def test_a_planted_wrong_answer_is_found_and_gone_from_both_caches() -> None:
    """With a tenth of hits asked again, as shipped; of a new scope 2.5 times as many. Most questions are exact ones."""
    model = Model(WRONG)
    async with place(model) as there:
        assert await there.ask(ASKED) == (WRONG, "miss")
        model.says = RIGHT
        began, wrong = time.monotonic(), Counter[str]()
        number, text = 0, WRONG
        while text == WRONG:
            assert time.monotonic() - began < PATIENCE_S, f"not found among {wrong}"
            text, cache = await there.ask((ASKED, NEAR[number // 2 % len(NEAR)])[number % 2])
            wrong[cache] += text == WRONG
            number += 1
            await asyncio.sleep(PAUSE_S)
        took_s = time.monotonic() - began
        assert (text, cache) == (RIGHT, "miss"), "gone from both"
        asked_again = model.asked.total() - 2
        later = {await there.ask(question) for question in (ASKED, *NEAR)}
        judged = (await there.get("/v1/evidence"))["semantic"]
    assert {text for text, _ in later} == {RIGHT}
    assert judged["wrong"]["estimate"] > 0
    print(  # noqa: T201 - figures for whoever asks
        f"\nplanted: found after {wrong['semantic']} semantic and {wrong['exact']} exact hits, {took_s:.1f} s,"
        f" by {asked_again} more calls at the operator's cost"
    )


async def test_other_words_are_served_once_models_have_said_the_same_to_them() -> None:
    """At no cost: near misses are answered anyway. What is stored for the words themselves is deleted each time."""
    model = Model(RIGHT)
    async with place(model) as there:
        assert await there.ask(ASKED) == (RIGHT, "miss")
        found: list[str] = []
        number = 0
        while number < 5:
            found.append((await there.ask(FAR))[1])
            if found[-1] == "semantic":
                break
            assert len(found) < 4 * 5
            # On a busy machine a lookup may miss its deadline: then nothing is near, and nothing is judged.
            with contextlib.suppress(TimeoutError):
                same = await there.judged("near_misses", number + 1, LATE_S)
                number += 1
            await there.delete(FAR)
        calls = model.asked.total()
    assert found[0] == "miss"
    assert found[-1] == "semantic"
    assert calls == len(found), "none was asked again"
    assert same["estimate"] > 1 / 2
    print(f"\nother words: served after {number} near misses")  # noqa: T201 - figures for whoever asks
