"""The turns of a conversation: each begins with the bytes of the last, the provider finds them, the bill says so."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from click.testing import CliRunner
from openai import AsyncOpenAI

from millrace.__main__ import main
from millrace.simulator.prompt_cache import PromptCache
from millrace.stores.database import FILE
from tests.support import messages_wire, responses_wire
from tests.support.chat_server import chunk, completing
from tests.support.messages_server import messaging
from tests.support.responses_server import responding
from tests.support.scripted_http import ScriptedServer
from tests.support.server import configuration_for, serving

Fields = dict[str, Any]

PRICE = {"input": "10", "cached_input": "1", "cache_write": "12.5", "output": "20"}
SYSTEM = "Plain words of a long system prompt, which is the same for every turn. " * 80
ASKED = ["How deep is the river?", "And how wide?", "And how long?"]
SAID = "It is so deep that nobody knows. " * 20
# Of each API: its name in a configuration, where its turns are, and who runs it.
APIS = {"chat": ("openai", "messages"), "responses": ("responses", "input"), "messages": ("anthropic", "messages")}


class Measured:
    """The usage that a server of OpenAI's reports: what it has found of a prompt, by the key, as it has it."""

    def __init__(self, turns: str) -> None:
        self._cache, self._turns = PromptCache(), turns
        self.counted: list[tuple[int, int]] = []  # tokens of each prompt, and those that were found

    def usage(self, body: Fields, names: tuple[str, str]) -> Fields:
        text = json.dumps(body.get("tools", []))[:-1] + json.dumps(body[self._turns])[:-1]
        total = len(text) // 4 + 1
        cached = self._cache.found(text, body.get("prompt_cache_key", ""))
        self.counted.append((total, cached))
        details = {"cached_tokens": cached}
        return {f"{names[0]}_tokens": total, f"{names[0]}_tokens_details": details, f"{names[1]}_tokens": 100}


@dataclass
class Behind:
    """A server in front of a scripted one of some API, and a client of it."""

    model: ScriptedServer
    turns: str  # the field of a body that has them
    client: AsyncOpenAI
    url: str
    data_dir: Path

    @property
    def sent(self) -> list[Fields]:
        """The bodies that the provider has got, their fields as bytes."""
        return [msgspec.json.decode(body, type=dict[str, msgspec.Raw]) for body in self.model.bodies]

    def rows(self) -> list[Fields]:
        with closing(sqlite3.connect(self.data_dir / FILE)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM entries ORDER BY opened_at")]


@asynccontextmanager
async def behind(api: str, data_dir: Path, change: Callable[[Fields], None] = lambda _: None) -> AsyncIterator[Behind]:
    upstream, turns = APIS[api]
    measured = Measured(turns)

    def chat(body: Fields) -> list[Fields]:
        return [chunk(content=SAID), chunk("stop", usage=measured.usage(body, ("prompt", "completion")))]

    def responses(body: Fields) -> responses_wire.Answer:
        message = responses_wire.message(SAID)
        return responses_wire.Answer(items=(message,), usage=measured.usage(body, ("input", "output")))

    def messages(_: Fields) -> messages_wire.Answer:
        return messages_wire.Answer(content=(messages_wire.text(SAID),))

    scripted: Any = {"chat": lambda: completing(chat), "responses": lambda: responding(responses)}
    scripted["messages"] = lambda: messaging(messages)
    async with scripted[api]() as model:
        configuration = configuration_for(model.url, model.url, data_dir=str(data_dir))
        for one in configuration["models"].values():
            one |= {"upstream": upstream, "price": PRICE, "prefix_cache": True}
        configuration["cache"] = {"exact": False, "semantic": False}
        change(configuration)
        async with (
            serving(configuration) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        ):
            yield Behind(model, turns, client, url, data_dir)


async def talk(setting: Behind, questions: list[str] = ASKED, **fields: Any) -> list[Any]:
    """Ask one question after the other over chat completions, with the whole history; return what was answered."""
    messages: list[Any] = [{"role": "system", "content": SYSTEM}]
    answers: list[Any] = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        answers.append(await setting.client.chat.completions.create(model="large", messages=messages, **fields))
        messages.append({"role": "assistant", "content": answers[-1].choices[0].message.content})
    return answers


def prefix(turns: bytes) -> bytes:
    """Return the bytes of the turns without the marks of the provider's cache, and without the bracket at the end."""
    return turns.replace(b',"cache_control":{"type":"ephemeral"}', b"").removesuffix(b"]")


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("tools", [False, True])
async def test_the_next_turn_begins_with_the_same_bytes_and_is_charged_so(
    tmp_path: Path, api: str, *, tools: bool
) -> None:
    """System prompt, tools and all earlier turns: the provider reports a hit, and answer, bill and row follow."""
    function = {"name": "look", "parameters": {"type": "object", "properties": {"b": {}, "a": {}}}}
    given: Any = {"tools": [{"type": "function", "function": function}]} if tools else {}
    async with behind(api, tmp_path) as setting:
        answers = await talk(setting, **given)
        sent = setting.sent
    for one, other in pairwise(sent):
        assert prefix(bytes(other[setting.turns])).startswith(prefix(bytes(one[setting.turns])))
        for name in ("model", "system", "tools", "prompt_cache_key"):
            assert (name in one) is (name in other)
            assert prefix(bytes(one.get(name, b""))) == prefix(bytes(other.get(name, b"")))
    assert ("tools" in sent[0]) is tools
    hits = [answer.usage.prompt_tokens_details.cached_tokens for answer in answers]
    assert hits[0] == 0
    assert all(hit >= 1024 for hit in hits[2:]), hits
    if api != "messages" or tools:  # else nobody knew at the first turn that another would follow
        assert hits[1] >= 1024, hits
    for row, answer in zip(setting.rows(), answers, strict=True):
        (call,) = json.loads(row["calls"])
        assert call["price"] == PRICE
        assert call["cached_input_tokens"] == row["cached_input_tokens"]
        assert row["cached_input_tokens"] == answer.usage.prompt_tokens_details.cached_tokens
        assert Decimal(row["cost_nanodollars"]) / 1000 == (
            (row["input_tokens"] - row["cached_input_tokens"] - row["cache_write_tokens"]) * 10
            + row["cached_input_tokens"]
            + row["cache_write_tokens"] * Decimal("12.5")
            + row["output_tokens"] * 20
        )


@pytest.mark.parametrize("api", APIS)
async def test_the_levers_tell_what_the_prefix_saved_to_the_nanodollar(tmp_path: Path, api: str) -> None:
    """What was read costs 9 dollars a million less than other input, what was written 2.5 more; nothing else saved."""
    async with behind(api, tmp_path) as setting:
        await talk(setting)
    rows = setting.rows()
    printed = await asyncio.to_thread(CliRunner().invoke, main, ["levers", "--json", "--data-dir", str(tmp_path)])
    told = json.loads(printed.stdout)["total"]
    read, written, paid = (
        sum(row[name] for row in rows) for name in ("cached_input_tokens", "cache_write_tokens", "cost_nanodollars")
    )
    saved = {each["lever"]: round(each["saved_usd"] * 1e9) for each in told["savings"] if each["saved_usd"]}
    assert read >= 1024
    assert (written > 0) is (api == "messages")
    assert saved == {"prefix": 9000 * read - 2500 * written}
    assert round(told["cost_usd"] * 1e9) == paid
    assert round(told["baseline_usd"] * 1e9) == paid + saved["prefix"]
    assert sum(row["saved_nanodollars"] for row in rows) == saved["prefix"]


@pytest.mark.parametrize("api", APIS)
async def test_what_changes_with_each_turn_comes_last(tmp_path: Path, api: str) -> None:
    """Chunks of context stand before the last question alone, so that the turns before it are sent as they were."""
    async with behind(api, tmp_path) as setting:
        for at in range(len(ASKED)):
            context = [f"Chunk {number} of turn {at}." for number in range(3)]
            messages: list[Any] = [{"role": "system", "content": SYSTEM}]
            for question in ASKED[:at]:
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": SAID}]
            messages.append({"role": "user", "content": ASKED[at]})
            await setting.client.chat.completions.create(
                model="large", messages=messages, extra_body={"millrace": {"context": context}}
            )
        turns = [prefix(bytes(body[setting.turns])) for body in setting.sent]
    assert all(f"Chunk 2 of turn {at}.".encode() in one for at, one in enumerate(turns))
    heads = [f"Context, most relevant first:\\n\\nChunk 0 of turn {at}".encode() for at in range(len(turns))]
    earlier = [one[: one.index(head)] for one, head in zip(turns, heads, strict=True)]
    assert turns[1].startswith(earlier[0])
    assert turns[2].startswith(earlier[1])
    assert SAID.strip().encode() in earlier[1]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_key_is_made_where_the_client_gives_none(tmp_path: Path, api: str) -> None:
    """It is another one for each session, and never for a short prompt; the client's own is sent as it is."""
    async with behind(api, tmp_path) as setting:
        ask = setting.client.chat.completions.create
        long: Any = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "How deep?"}]
        for headers in ({"session-id": "one"}, {"session-id": "two"}, {}):
            await ask(model="large", messages=long, extra_headers=headers)
        await ask(model="large", messages=long, extra_body={"prompt_cache_key": "mine"})
        await ask(model="large", messages=long[1:])
        keys = [body.get("prompt_cache_key") for body in setting.model.asked]
    assert len({*keys[:3]}) == 3
    assert all(key and len(key) == 32 for key in keys[:3])
    assert keys[3:] == ["mine", None]


@pytest.mark.parametrize("api", APIS)
async def test_both_can_be_switched_off(tmp_path: Path, api: str) -> None:
    """With `prefix_cache = false` nothing is added to what the client asks."""

    def off(configuration: Fields) -> None:
        for one in configuration["models"].values():
            one["prefix_cache"] = False

    async with behind(api, tmp_path, off) as setting:
        await talk(setting)
        text = b"".join(setting.model.bodies)
    assert b"prompt_cache_key" not in text
    assert b"cache_control" not in text


async def test_only_who_takes_a_key_gets_one_unasked(tmp_path: Path) -> None:
    """OpenAI does, by its preset; others are sent what they are known to take."""

    def by_provider(configuration: Fields) -> None:
        for name, provider in (("small", "auto"), ("large", "openai")):
            del configuration["models"][name]["prefix_cache"]
            configuration["models"][name]["provider"] = provider

    async with behind("chat", tmp_path, by_provider) as setting:
        for model in ("small", "large"):
            messages: Any = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "How deep?"}]
            await setting.client.chat.completions.create(model=model, messages=messages)
        assert ["prompt_cache_key" in body for body in setting.model.asked] == [False, True]


async def test_a_prompt_that_nobody_repeats_is_not_written_to_the_cache(tmp_path: Path) -> None:
    """A write costs more than a read: a long system prompt is marked from the second time on, within minutes."""
    async with behind("messages", tmp_path) as setting:
        for question in ASKED:
            await talk(setting, [question])
        marked = [b"cache_control" in body for body in setting.model.bodies]
    assert marked == [False, True, True]
    written, read = ([row[name] for row in setting.rows()] for name in ("cache_write_tokens", "cached_input_tokens"))
    assert [count > 0 for count in written] == [False, True, False]
    assert [count > 0 for count in read] == [False, False, True]


async def test_the_share_that_was_read_from_caches_is_shown(tmp_path: Path) -> None:
    """Of each model, to admins; and of each session by the command."""
    async with behind("chat", tmp_path) as setting:
        answers = await talk(setting, extra_headers={"session-id": "ours"})
        async with aiohttp.ClientSession() as session, session.get(f"{setting.url}/readyz?verbose") as response:
            small, large = (await response.json())["models"]
    assert (small["input_tokens"], small["cached_input_tokens"]) == (0, 0)
    assert large["input_tokens"] == sum(answer.usage.prompt_tokens for answer in answers)
    cached = sum(answer.usage.prompt_tokens_details.cached_tokens for answer in answers)
    assert large["cached_input_tokens"] == cached > 0
    runner = CliRunner()  # no terminal, so nothing is cut
    shown = await asyncio.to_thread(runner.invoke, main, ["sessions", "--data-dir", str(tmp_path)])
    (line,) = [line for line in shown.stdout.splitlines() if "ours" in line]
    assert f"{cached} ({cached / large['input_tokens']:.0%})" in line
