"""Two turns of stock clients with each strict provider behind a Millrace of its own."""

import asyncio
import json
from dataclasses import replace

from tests.stock.scenarios import ROUNDS, Result, Scenario, run as run_one
from tests.strict.gateways import gateways
from tests.strict.provider import ANSWER
from tests.strict.rules import RULES

PICTURE = "data:image/png;base64,iVBORw0KGgo="


async def results(scenarios: tuple[Scenario, ...] = ROUNDS) -> list[Result]:
    """Run the programs; each goes round with every provider, as small and as large, whole and streamed.

    A program has failed, too, if something was refused on the way, or did not come back to its provider.
    """
    async with gateways() as (providers, urls):
        told = {
            preset: {"url": url, "sees": RULES[preset].images != "none", "picture": PICTURE, "answer": ANSWER}
            for preset, url in urls.items()
        }
        ended: list[Result] = []
        for scenario in scenarios:
            result = await run_one(scenario, urls["openai"], {"PROVIDERS": json.dumps(told)})
            reason = result.reason or "; ".join(providers.faults())
            ended.append(replace(result, reason=reason))
            providers.forget()
        return ended


def run(scenarios: tuple[Scenario, ...] = ROUNDS) -> list[Result]:
    """Run them in a loop of their own."""
    return asyncio.run(results(scenarios))
