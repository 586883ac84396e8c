"""Every dialect of clients over every API of models: what passes without a loss, and what becomes of the rest."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.any_client import DIALECTS, PICTURE, SCHEMA, Question, ask, ask_and_leave
from tests.support.any_model import AnyServer, Said, any_model, hold_before_the_end, seen
from tests.support.server import AT_ONCE_S, configuration_for, serving
from tests.support.waiting import PATIENCE_S, until, within

APIS = ("openai", "responses", "anthropic")
CELLS = ("text", "calls", "picture", "schema", "reasoning", "refusal", "cut off", "filtered", "broken", "left")
# What another API has no word for is told in the nearest one: the text of the answer, its refusal, and its end.
# The Messages API has one word for an answer that was refused and one that was filtered.
NEAREST: dict[tuple[str, str, str], tuple[str, str, str]] = {
    ("responses", "anthropic", "refusal"): ("I can't help with that.", "", "content_filter"),
    ("chat", "anthropic", "refusal"): ("I can't help with that.", "", "content_filter"),
    ("messages", "openai", "filtered"): ("", "It is", "refusal"),
    ("messages", "responses", "filtered"): ("", "It is", "refusal"),
    ("messages", "anthropic", "filtered"): ("", "It is", "refusal"),
}
LOSSLESS = {(dialect, api, cell) for dialect in DIALECTS for api in APIS for cell in CELLS} - NEAREST.keys()


@asynccontextmanager
async def behind(api: str, *answers: Said) -> AsyncIterator[tuple[str, AnyServer]]:
    """Run a server whose models answer so over an API; yield its URL and the small model."""
    async with any_model(api, *answers) as small, any_model(api, *answers) as large:
        configuration = configuration_for(small.url, large.url)
        configuration |= {"cache": {"exact": False, "semantic": False}}
        for model in configuration["models"].values():
            model["upstream"] = api
        async with serving(configuration) as url:
            yield url, small


async def text(dialect: str, api: str) -> None:
    async with behind(api, Said(text="It rains in Köln. 😀")) as (url, small):
        got = await ask(url, dialect, Question())
    assert (got.text, got.end, got.notes) == ("It rains in Köln. 😀", "stop", "")
    assert len(small.asked) == 1


async def calls(dialect: str, api: str) -> None:
    """Two in one answer; both results go back, and the answer after them comes."""
    made = [("weather", {"city": "Paris"}), ("weather", {"city": "Rome"})]
    async with behind(api, Said(calls=tuple(made)), Said(text="Sun.")) as (url, small):
        first = await ask(url, dialect, Question(has_tool=True))
        assert (first.calls, first.end) == (made, "tool_calls")
        second = await ask(url, dialect, Question(has_tool=True, before=first, results=("21", "25")))
    assert (second.text, second.end, second.notes) == ("Sun.", "stop", "")
    told = seen(small, small.asked[1])
    assert (told.calls, told.results) == (made, ["21", "25"])


async def picture(dialect: str, api: str) -> None:
    async with behind(api, Said(text="A town.")) as (url, small):
        got = await ask(url, dialect, Question(has_picture=True))
    assert (got.text, got.notes) == ("A town.", "")
    assert seen(small, small.asked[0]).pictures == [PICTURE]


async def schema(dialect: str, api: str) -> None:
    async with behind(api, Said(text='{"city": "Paris"}')) as (url, small):
        got = await ask(url, dialect, Question(has_schema=True))
    assert (got.text, got.notes) == ('{"city": "Paris"}', "")
    assert seen(small, small.asked[0]).schema == SCHEMA


async def reasoning(dialect: str, api: str) -> None:
    """Over two turns: shown to the client, and back to the model as it can verify it."""
    answers = Said(thought="It must be sunny.", calls=(("weather", {"city": "Paris"}),)), Said(text="Sun.")
    async with behind(api, *answers) as (url, small):
        first = await ask(url, dialect, Question(has_tool=True, thinks=True))
        assert first.thought == "It must be sunny."
        second = await ask(url, dialect, Question(has_tool=True, thinks=True, before=first, results=("21",)))
    assert (second.text, second.end) == ("Sun.", "stop")
    assert seen(small, small.asked[1]).thoughts == ["It must be sunny."]
    assert small.refused == []


async def refusal(dialect: str, api: str) -> None:
    async with behind(api, Said(refusal="I can't help with that.")) as (url, _):
        got = await ask(url, dialect, Question())
    expected = NEAREST.get((dialect, api, "refusal"), ("", "I can't help with that.", "refusal"))
    assert (got.text, got.refusal, got.end) == expected


async def cut_off(dialect: str, api: str) -> None:
    async with behind(api, Said(text="It rains in", end="length")) as (url, _):
        got = await ask(url, dialect, Question())
    assert (got.text, got.end) == ("It rains in", "length")


async def filtered(dialect: str, api: str) -> None:
    async with behind(api, Said(text="It is", end="content_filter")) as (url, _):
        got = await ask(url, dialect, Question())
    expected = NEAREST.get((dialect, api, "filtered"), ("It is", "", "content_filter"))
    assert (got.text, got.refusal, got.end) == expected


async def broken(dialect: str, api: str) -> None:
    """In mid-stream: never a whole answer, and the words of the provider are passed on."""
    async with behind(api, Said(text="It rains in", end="error")) as (url, _):
        got = await ask(url, dialect, Question())
    assert got.end == "error"


async def left(dialect: str, api: str) -> None:
    """The client goes away: the model's connection is closed at once."""
    said = Said(text="It rains in Köln.")
    async with behind(api, said) as (url, small):
        hold_before_the_end(small, said)
        await ask_and_leave(url, dialect, Question(), small.begun)
        async with within(AT_ONCE_S):
            await until(lambda: small.left_at is not None)


Cell = Callable[[str, str], Awaitable[None]]
RUN: dict[str, Cell] = dict(
    zip(CELLS, (text, calls, picture, schema, reasoning, refusal, cut_off, filtered, broken, left), strict=True)
)


def test_what_is_not_without_a_loss_is_told_so() -> None:
    """85 of 90 cells. A new dialect or API must say which of its cells are not."""
    assert (len(LOSSLESS), len(NEAREST)) == (85, 5)
    assert {cell for *_, cell in NEAREST} == {"refusal", "filtered"}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_dialect_over_an_api(dialect: str, api: str, cell: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await RUN[cell](dialect, api)
