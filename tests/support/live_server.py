"""A server whose configuration changes while it runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp

from tests.support.server import Running, started


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A server, and what its file would hold."""

    running: Running
    configuration: dict[str, Any]
    http: aiohttp.ClientSession

    @property
    def models(self) -> dict[str, Any]:
        """The section [models]."""
        models: dict[str, Any] = self.configuration["models"]
        return models

    async def reload(self, **headers: str) -> dict[str, Any]:
        """Have it read the configuration anew; return what came of it."""
        async with self.http.post("/v1/reload", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            outcome: dict[str, Any] = await answer.json()
            return outcome

    async def get(self, path: str) -> Any:
        """Return a document."""
        async with self.http.get(path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


@asynccontextmanager
async def live_server(**sections: dict[str, Any]) -> AsyncIterator[LiveServer]:
    """Run a server with two models that answer at once. `sections` are added to its configuration."""
    kept: list[dict[str, Any]] = []

    def change(configuration: dict[str, Any]) -> None:
        for section, keys in sections.items():
            configuration[section] = configuration.get(section, {}) | keys
        kept.append(configuration)

    async with started(change) as running, aiohttp.ClientSession(running.url) as http:
        yield LiveServer(running, kept[0], http)


def cost(usage: dict[str, Any], price: dict[str, str]) -> float:
    """Return what tokens cost at a price, in dollars."""
    cached = usage["input_tokens_details"]["cached_tokens"]
    dollars = (usage["input_tokens"] - cached) * Decimal(price["input"]) + usage["output_tokens"] * Decimal(
        price["output"]
    )
    return float((dollars + cached * Decimal(price.get("cached_input", price["input"]))) / 1_000_000)
