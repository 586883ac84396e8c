"""Millrace in front of the strict providers: one server per preset, which is both its small and its large model."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.strict.provider import Providers, providing
from tests.strict.rules import RULES
from tests.support.server import configuration_for, serving


@asynccontextmanager
async def gateways(presets: Iterable[str] = RULES, **models: Any) -> AsyncIterator[tuple[Providers, dict[str, str]]]:
    """Yield the providers, and the URL of each preset's Millrace. `models` goes into the settings of both models."""
    async with AsyncExitStack() as stack:
        providers = await stack.enter_async_context(providing())
        urls: dict[str, str] = {}
        for preset in presets:
            url = providers.base_url(preset)
            configuration = configuration_for(url, url) | {"cache": {"exact": False, "semantic": False}}
            for model in configuration["models"].values():
                model.update({"provider": preset} | models)
            urls[preset] = f"{await stack.enter_async_context(serving(configuration))}/v1"
        yield providers, urls
