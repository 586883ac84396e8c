"""Asks a server for every stream over every wire, and compares what came with the truth."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import aiohttp

from millrace.funnel import breaker
from tests.grammar.provider import Provider, providing
from tests.grammar.stream import BROKEN, SHARE_BROKEN, Stream, stream
from tests.grammar.truth import Truth, truth
from tests.grammar.wires import Got, over_chat, over_responses, over_socket
from tests.support.server import PRICES, configuration_for, serving
from tests.support.wire_client import wire_client

STRATEGIES = ("small", "large", "cascade")
AT_ONCE = 24
WHOLE = {"delivery": "commit"}  # else words of a stream that breaks off stand, where they cannot be taken back
Ask = Callable[[str, dict[str, Any]], Awaitable[Got]]


@dataclass(slots=True)
class Report:
    """What was asked, and what was wrong."""

    streams: Counter[str] = field(default_factory=Counter)  # by how they are broken, or "readable"
    completed: int = 0
    failed: int = 0
    stored: int = 0
    wrong: list[str] = field(default_factory=list)


async def run(streams: int, seed: int, folder: Path, tick: Callable[[], None] = lambda: None) -> Report:
    """Ask for so many streams. `folder` is for the database; `tick` is called after each."""
    random, report = Random(seed), Report()
    truths = {number: truth(random, number) for number in range(streams)}
    small = {number: _stream(random, truths[number]) for number in truths}
    large = {
        number: stream(random, truths[number], small[number].broken if random.random() < 0.5 else None)
        for number in truths
    }
    async with _asking(small, large, seed, folder) as wires:
        queue = iter(truths)

        async def work(ask: Ask) -> None:
            for number in queue:
                strategy = STRATEGIES[number % len(STRATEGIES)]
                models = {"small": (small,), "large": (large,), "cascade": (small, large)}[strategy]
                shown = [streams_[number] for streams_ in models]
                report.streams[shown[0].broken or "readable"] += 1
                await _check(ask, number, strategy, truths[number], shown, report)
                tick()

        await asyncio.gather(*(work(wires[at % len(wires)]) for at in range(AT_ONCE)))
    _check_cache(folder, truths, report)
    return report


def _stream(random: Random, said: Truth) -> Stream:
    return stream(random, said, random.choice(BROKEN) if random.random() < SHARE_BROKEN else None)


async def _check(ask: Ask, number: int, strategy: str, said: Truth, shown: list[Stream], report: Report) -> None:
    question = f"stream {number}"
    try:
        got = await ask(question, {"strategy": strategy})
    except Exception as error:
        report.wrong.append(f"{question} ({strategy}): {error!r}")
        return
    readable = next((one for one in shown if one.broken is None), None)
    if readable is None:
        report.failed += 1
        if got.finish != "failed":
            report.wrong.append(f"{question} ({strategy}, {shown[0].broken}): completed as {got}")
        return
    report.completed += 1
    if differences := [*_differences(said, got), *_money(said, got, shown)]:
        report.wrong.append(f"{question} ({strategy}): {'; '.join(differences)}")


def _differences(said: Truth, got: Got) -> list[str]:
    calls = tuple((made.name, json.loads(made.arguments)) for made in said.calls)
    pairs = (("finish", said.finish, got.finish), ("text", said.text, got.text), ("calls", calls, got.calls))
    pairs += (("reasoning", said.reasoning, got.reasoning),)  # type: ignore[assignment]
    return [f"{name}: {got_!r} instead of {true!r}" for name, true, got_ in pairs if true != got_]


def _money(said: Truth, got: Got, shown: list[Stream]) -> list[str]:
    """Compare the usage and the cost of every call that was read to its end."""
    assert got.usage is not None
    faults = []
    for attempt in got.usage["attempts"]:
        tier = attempt["model"].removesuffix("-model")
        one = shown[-1] if tier == "large" else shown[0]
        if one.broken is None and one.is_counted and attempt["outcome"] in ("answered", "revised"):
            prices = {name: Decimal(price) for name, price in PRICES[tier].items()}
            cost = said.input_tokens * prices["input"] + said.output_tokens * prices["output"]
            if abs(Decimal(str(attempt["cost_usd"])) * 10**6 - cost) > Decimal("0.002"):
                faults.append(f"{tier} cost {attempt['cost_usd']} instead of {cost / 10**6}")
    total = sum(Decimal(str(attempt["cost_usd"])) for attempt in got.usage["attempts"])
    if abs(total - Decimal(str(got.usage["cost_usd"]))) > Decimal("1e-9"):
        faults.append(f"the calls cost {total}, the request {got.usage['cost_usd']}")
    return faults


def _check_cache(folder: Path, truths: dict[int, Truth], report: Report) -> None:
    """Every stored answer is the whole text of a truth that stopped by itself."""
    whole = {said.text for said in truths.values() if said.finish == "stop"}
    with sqlite3.connect(folder / "millrace.sqlite3") as database:
        for (answer,) in database.execute("SELECT answer FROM answers"):
            report.stored += 1
            if (text := json.loads(answer)["text"]) not in whole:
                report.wrong.append(f"stored: {text!r}")


@asynccontextmanager
async def _asking(
    small: dict[int, Stream], large: dict[int, Stream], seed: int, folder: Path
) -> AsyncIterator[list[Ask]]:
    """Run both providers and a server; yield a way to ask over each wire."""
    async with AsyncExitStack() as stack:
        stack.enter_context(mock.patch.multiple(breaker, FAILURES=10**9, RATE=2.0))  # it would leave both alone
        providers: list[Provider] = [
            await stack.enter_async_context(providing(streams, seed + at)) for at, streams in enumerate((small, large))
        ]
        configuration = configuration_for(*(provider.url for provider in providers), data_dir=str(folder))
        configuration["cache"] = {"semantic": False}
        url = await stack.enter_async_context(serving(configuration))
        http = await stack.enter_async_context(aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)))
        yield [
            lambda question, options: _over_socket(url, question, options | WHOLE, negotiated=False),
            lambda question, options: _over_socket(url, question, options, negotiated=True),
            lambda question, options: over_responses(http, question, options | WHOLE, stream=True),
            lambda question, options: over_responses(http, question, options | WHOLE, stream=False),
            lambda question, options: over_chat(http, question, options | WHOLE, stream=True),
            lambda question, options: over_chat(http, question, options | WHOLE, stream=False),
        ]


async def _over_socket(url: str, question: str, options: dict[str, Any], *, negotiated: bool) -> Got:
    async with wire_client(url.replace("http", "ws", 1), negotiated=negotiated) as client:
        return await over_socket(client, question, options)
