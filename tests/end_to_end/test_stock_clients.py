"""Stock clients, only a base URL changed: all that `python -m tests.stock` runs and shows as a table."""

import asyncio
import os

import pytest

from tests.stock.environment import is_ready
from tests.stock.scenarios import Result, run_all
from tests.stock.server import serving


async def everything() -> list[Result]:
    async with serving() as base_url:
        return await run_all(base_url)


@pytest.mark.timeout(300)
def test_every_stock_client_is_at_home() -> None:
    """One server and one run for them all; the message tells what failed, and why."""
    if not is_ready() and not os.environ.get("MILLRACE_NO_SKIPS"):
        pytest.skip("the stock clients are not installed; install them with: python -m tests.stock --prepare")
    ended = asyncio.run(everything())
    assert {(result.scenario.client, result.scenario.name): result.reason for result in ended if result.reason} == {}
