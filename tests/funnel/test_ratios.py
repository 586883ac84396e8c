"""Counts that are estimates are corrected by what providers report: only by whole prompts, within bounds, and kept."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from millrace import pricing, tokens
from millrace.errors import MillraceError
from millrace.funnel.catalog import Catalog
from millrace.funnel.prompt import trimmed
from millrace.funnel.ratios import AS_SEEN, HIGHEST, LEAST, MEMORY, Ratios
from millrace.funnel.routing.choice import likely
from millrace.simulator import SMALL as PROFILE, Simulator
from millrace.stores.database import SqliteDatabase
from millrace.stores.ratios import SqliteRatios
from millrace.types import (
    Api,
    Call,
    Counted,
    Encoding,
    Media,
    Message,
    Native,
    Prompt,
    Sealed,
    Strategy,
    Tool,
    Usage,
)
from tests.support.scripted_models import LARGE, SMALL, request
from tests.support.server import configuration_for, serving, without_delays
from tests.support.wire_client import check_response, wire_client

SAID = Message(role="user", parts=("How deep is it?",))
OWN = Encoding(is_own=True)


def call(counted: int = 1000, *messages: Message, model: Any = SMALL, **prompt: Any) -> Call:
    return Call(model=model, prompt=Prompt(messages=messages or (SAID,), **prompt), counted=Counted(counted))


def reported(input_tokens: int, **more: Any) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=5, **more)


def test_a_ratio_goes_from_what_is_assumed_to_what_is_reported() -> None:
    ratios, claude = Ratios(), replace(SMALL, encoding=Encoding(factor=1.25))
    assert ratios.of(claude) == 1.25
    assert ratios.shown(claude).reported is None
    ratios.learn(call(AS_SEEN, model=claude), reported(AS_SEEN * 3 // 2))
    assert ratios.of(claude) == pytest.approx(1.375)
    for _ in range(500):
        ratios.learn(call(AS_SEEN, model=claude), reported(AS_SEEN * 3 // 2))
    assert ratios.of(claude) == pytest.approx(1.5, abs=0.01)
    assert ratios.shown(claude).reported == pytest.approx(1.5)
    assert all(counted <= MEMORY for _, _, counted, _ in ratios.rows())
    for _ in range(500):  # the provider counts in another way now
        ratios.learn(call(AS_SEEN, model=claude), reported(AS_SEEN))
    assert ratios.of(claude) == pytest.approx(1.1, abs=0.1)


def test_what_is_exact_is_not_corrected_but_compared() -> None:
    """An operator sees whether the encoding is the right one."""
    ratios, model = Ratios(), replace(SMALL, encoding=OWN)
    ratios.learn(call(model=model), reported(1100))
    assert ratios.of(model) == 1
    assert ratios.shown(model).reported == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("made", "usage"),
    [
        (call(), None),
        (call(), reported(1500, estimated=True)),
        (call(), reported(1500, cached_input_tokens=100)),
        (call(), reported(1500, cache_write_tokens=100)),
        (call(), reported(int(1000 * HIGHEST) + 1)),
        (call(), reported(1)),
        (call(LEAST - 1), reported(LEAST)),
        (call(1000, Message(role="user", parts=("x", Media(kind="image", fields={"url": "u"})))), reported(1500)),
        (call(1000, Message(role="assistant", reasoning="so", parts=("x",))), reported(1500)),
        (call(1000, Message(role="assistant", sealed=(Sealed(api=Api.MESSAGES, fields={}),))), reported(1500)),
        (call(tools=(Tool(name="s", hosted=Sealed(api=Api.RESPONSES, fields={})),)), reported(1500)),
    ],
    ids=[
        "no report",
        "an estimate",
        "read from a cache",
        "written to one",
        "far too many",
        "far too few",
        "short",
        "an image",
        "reasoning",
        "a sealed block",
        "a hosted tool",
    ],
)
def test_what_teaches_nothing(made: Call, usage: Usage | None) -> None:
    """What is not a whole prompt, read anew, of countable text, and believable."""
    ratios = Ratios()
    ratios.learn(made, usage)
    assert not ratios.is_changed
    assert ratios.of(SMALL) == 1


async def test_what_was_learned_outlives_the_process_and_what_cannot_be_right_does_not(tmp_path: Path) -> None:
    ratios, other = Ratios(), replace(SMALL, address="elsewhere")
    ratios.learn(call(AS_SEEN), reported(2 * AS_SEEN))
    database = SqliteDatabase(str(tmp_path))
    store = SqliteRatios(database)
    store.keep(ratios.rows())
    store.keep([("elsewhere", SMALL.id, 10.0, 1e9), ("elsewhere", "negative", -1.0, -1.0)])
    await database.ready()
    database.close()
    assert not ratios.is_changed
    database, again = SqliteDatabase(str(tmp_path)), Ratios()
    again.begin(await SqliteRatios(database).load())
    database.close()
    assert (again.of(SMALL), again.of(other)) == (1.5, 1)


async def test_the_correction_counts_where_room_bookings_and_limits_are_reckoned() -> None:
    """For each model by itself: the small one's provider counts as Millrace does, the large one's twice as much."""
    ratios = Ratios()
    for _ in range(200):
        ratios.learn(call(AS_SEEN, model=LARGE), reported(2 * AS_SEEN))
    large = replace(LARGE, encoding=Encoding(), context_window=3000, max_output_tokens=1000)
    catalog = Catalog(replace(SMALL, context_window=3000), large, {}, Strategy.AUTO, ratios=ratios)
    asked = request(Message(role="user", parts=("mill " * 900,)), strategy=Strategy.LARGE)
    whole = await trimmed(asked, asked.prompt, None, catalog)
    exact = tokens.count_prompt(asked.prompt)
    assert whole.counted_for(catalog.small) == Counted(exact, 1.0)
    assert whole.counted_for(large).input_tokens == whole.input_tokens == pytest.approx(2 * exact, rel=0.02)
    assert catalog.fits_small(whole)
    booked = likely(asked, catalog).tokens - likely(replace(asked, strategy=Strategy.SMALL), catalog).tokens
    assert booked == pytest.approx(tokens.estimate(asked.prompt.size) + 1000 - 1000, rel=0.05)
    (ruler,) = catalog.rulers(Strategy.LARGE)
    assert ruler.limit == pytest.approx(1000, rel=0.02)
    long = request(Message(role="user", parts=("mill " * 1100,)), strategy=Strategy.LARGE)
    said = r"have \d+ tokens in o200k_base; large-model takes 2000 of its own, which are about 10\d\d of these; shorten"
    with pytest.raises(MillraceError, match=said):
        await trimmed(long, long.prompt, None, catalog)


async def test_two_encodings_count_one_prompt() -> None:
    """Each model by its own, once."""
    small = replace(SMALL, encoding=Encoding(name=tokens.CL100K, is_own=True))
    catalog = Catalog(small, replace(LARGE, encoding=OWN), {}, Strategy.AUTO)
    asked = request(Message(role="user", parts=("東京の水車 " * 50,)))
    whole = await trimmed(asked, asked.prompt, None, catalog)
    counts = {by: tokens.count_prompt(asked.prompt, by=by) for by in tokens.NAMES}
    assert counts[tokens.CL100K] > counts[tokens.O200K]
    assert whole.counted_for(small).input_tokens == counts[tokens.CL100K]
    assert whole.input_tokens == counts[tokens.O200K]


@pytest.mark.parametrize(
    ("effort", "native", "budget"),
    [
        (None, None, 0),
        ("none", None, 0),
        ("low", None, 2048),
        ("high", None, 16_384),
        ("unheard of", None, 0),
        ("low", {"thinking": {"type": "enabled", "budget_tokens": 5000}}, 5000),
        (None, {"thinking": {"type": "enabled", "budget_tokens": -5}}, 0),
        (None, {"thinking": "yes"}, 0),
    ],
)
def test_reasoning_that_is_asked_for_is_booked(effort: str | None, native: dict[str, Any] | None, budget: int) -> None:
    """By its own budget, else by the effort; never more than the answer may have."""
    fields = {} if native is None else {"native": Native(api=Api.MESSAGES, fields=native)}
    prompt = Prompt(messages=(SAID,), reasoning_effort=effort, **fields)  # type: ignore[arg-type]  # of two types
    open_ended = Call(model=replace(SMALL, max_output_tokens=None), prompt=prompt)
    assert pricing.booking(open_ended, 10).output_tokens == pricing.BOOKED + budget
    assert pricing.booking(Call(model=SMALL, prompt=prompt), 10).output_tokens == SMALL.max_output_tokens


async def test_counts_are_shown_and_used_and_outlive_a_restart(tmp_path: Path) -> None:
    """`/healthz?verbose` has them; a stream that ends without a report is estimated by what was reported before."""
    options = {"strategy": "small"}
    async with Simulator(without_delays(PROFILE)) as small:
        configuration = configuration_for(small.base_url, "http://127.0.0.1:9/v1", data_dir=str(tmp_path))
        configuration["models"]["large"]["encoding"] = "cl100k_base"
        async with serving(configuration) as url, wire_client(url.replace("http", "ws", 1)) as client:
            for number in range(3):
                text = f"{number} " + "the mill grinds corn; " * 300
                response = check_response(await client.ask(text, millrace=options))
            ratio = response["usage"]["input_tokens"] / counted(text)
            first = await _counting(url)
        assert first["small"]["reported"] == pytest.approx(ratio, abs=0.01)
        assert first["small"]["ratio"] != 1
        assert (first["small"]["encoding"], first["small"]["exact"]) == (tokens.O200K, False)
        assert (first["large"]["encoding"], first["large"]["exact"]) == (tokens.CL100K, True)
        async with serving(configuration) as url, wire_client(url.replace("http", "ws", 1)) as client:
            ratio = (await _counting(url))["small"]["ratio"]
            assert ratio == pytest.approx(first["small"]["ratio"], abs=0.006)
            text = "9 " + text + "[fault=nousage]"
            usage = check_response(await client.ask(text, millrace=options))["usage"]
    assert usage["estimated"] is True
    assert usage["input_tokens"] == pytest.approx(counted(text) * ratio, abs=3)


def counted(text: str) -> int:
    return tokens.count_prompt(Prompt(messages=(Message(role="user", parts=(text,)),)))


async def _counting(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession(url) as http, http.get("/healthz?verbose") as answer:
        return {row["name"]: row for row in json.loads(await answer.read())["counting"]}
