"""Streams that run while models, prices, limits and keys change: whether each ends, and at which price."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from millrace.access.keys import new_secret
from millrace.assembly import key_store
from millrace.stores.database import FILE
from tests.support.live_server import cost

GRACE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds from one change to the next."""

    model: str
    base_url: str
    price: dict[str, str]


def terms_of(number: int, base_urls: list[str]) -> Terms:
    """Return the terms after so many changes. No two are the same."""
    price = {"input": f"{1 + number}.00", "output": f"{10 + 7 * number}.00"}
    return Terms(f"model-{number % 3}", base_urls[number % len(base_urls)], price)


def write(configuration: dict[str, Any], number: int, base_urls: list[str]) -> None:
    """Change a configuration to the terms of a number: the model, where it is, its price, and the limits."""
    terms = terms_of(number, base_urls)
    configuration["models"]["small"] |= {"model": terms.model, "base_url": terms.base_url, "price": terms.price}
    configuration["limits"] = {"requests_per_minute": 100_000 + number}


@dataclass(slots=True)
class Outcome:
    """What became of the streams."""

    completed: int = 0
    cut: int = 0  # that did not end by themselves, or were not whole
    misbilled: int = 0  # not at the price that they began with, to their client
    misbooked: int = 0  # or in the ledger
    most_running: int = 0
    changes: int = 0
    reload_s: list[float] = field(default_factory=list)  # that each change took
    why: list[str] = field(default_factory=list)  # of some that were cut


async def run(  # noqa: PLR0913 - the measure
    url: str,
    folder: Path,
    base_urls: list[str],
    change: Callable[[int], Awaitable[None]],
    *,
    key: str,
    streams: int,
    changes: int,
    tokens: int,
    rate: float,
) -> Outcome:
    """Begin streams between the changes, so that all run through those after them. `change` applies a number's terms.

    The key is rotated at each change.
    """
    outcome, begun, expected = Outcome(), 0, {}
    tasks: list[asyncio.Task[None]] = []
    async with aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(None)
    ) as http:

        async def stream(number: int, terms: Terms, has_begun: asyncio.Event, key: str) -> None:
            body = {
                "input": f"Question {number}. [tokens={tokens}] [rate={rate}]",
                "model": "small",
                "stream": True,
                "millrace": {"cache": "off"},
            }
            said = ""
            try:
                async with http.post("/v1/responses", json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
                    async for line in answer.content:
                        if line.startswith(b"event: "):
                            said = line[7:-1].decode()
                            if said == "response.output_text.delta":
                                has_begun.set()
                        elif said in ("response.completed", "response.failed", "response.incomplete"):
                            _judge(outcome, json.loads(line[6:])["response"], terms, tokens)
                            expected[json.loads(line[6:])["response"]["id"]] = terms
                            return
                    outcome.why.append(f"HTTP {answer.status} ended after {said!r}")
            except aiohttp.ClientError as error:
                outcome.why.append(repr(error))
            finally:
                has_begun.set()
            outcome.cut += 1

        for change_number in range(changes + 1):
            if change_number:
                began = time.monotonic()
                await change(change_number)
                outcome.reload_s.append(time.monotonic() - began)
                outcome.changes += 1
                key = await rotated(folder, key)
            terms = terms_of(change_number, base_urls)
            share = (streams - begun) // (changes + 1 - change_number)
            waits = [asyncio.Event() for _ in range(share)]
            for at, has_begun in enumerate(waits):
                tasks.append(asyncio.create_task(stream(begun + at, terms, has_begun, key)))
            begun += share
            await asyncio.gather(*(each.wait() for each in waits))
            outcome.most_running = max(outcome.most_running, sum(not task.done() for task in tasks))
        await asyncio.gather(*tasks)
    await asyncio.to_thread(_look_at_ledger, folder, expected, outcome)
    return outcome


async def rotated(folder: Path, key: str) -> str:
    """Rotate a key; return its new text once the server knows it."""
    key_id = key.split("_")[1]
    digest, text = new_secret(key_id)
    async with key_store(str(folder)) as store:
        assert await store.rotate(key_id, digest, time.time() + GRACE_S)
    await asyncio.sleep(2.0)  # PROTOCOL.md, Keys
    return text


def _judge(outcome: Outcome, response: dict[str, Any], terms: Terms, tokens: int) -> None:
    usage = response["usage"]
    if response["status"] != "completed" or usage["output_tokens"] != tokens:
        outcome.cut += 1
        outcome.why.append(f"{response['status']} {response.get('error')} with {usage['output_tokens']} tokens")
        return
    outcome.completed += 1
    if response["model"] != terms.model or abs(usage["cost_usd"] - cost(usage, terms.price)) > 1e-9:
        outcome.misbilled += 1


def _look_at_ledger(folder: Path, expected: dict[str, Terms], outcome: Outcome) -> None:
    """Hold each row against the price that its request began with."""
    deadline = time.monotonic() + 10
    found: dict[str, tuple[int, int, int, str]] = {}
    while len(found) < len(expected) and time.monotonic() < deadline:
        with closing(sqlite3.connect(folder / FILE)) as file:
            found = {
                row[0]: row[1:]
                for row in file.execute(
                    "SELECT request_id, input_tokens, output_tokens, cost_nanodollars, calls FROM entries"
                    " WHERE status = 'completed'"
                )
            }
        time.sleep(0.05)
    for request_id, terms in expected.items():
        if request_id not in found:
            outcome.misbooked += 1
            continue
        input_tokens, output_tokens, nanodollars, calls = found[request_id]
        price = {name: Decimal(value) for name, value in terms.price.items()}
        wanted = (input_tokens * price["input"] + output_tokens * price["output"]) * 1000
        models = [call["model"] for call in json.loads(calls)]
        outcome.misbooked += models != [terms.model] or nanodollars != int(wanted)
