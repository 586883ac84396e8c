"""Stock clients, only a base URL changed: all that `python -m tests.stock` runs and shows as a table."""

import asyncio
import os

import pytest

from tests.stock import every_api, rounds, scripted_servers
from tests.stock.environment import is_ready
from tests.stock.scenarios import Result, run_all
from tests.stock.server import serving


async def everything() -> list[Result]:
    async with serving() as base_url:
        return await run_all(base_url)


def skip_unless_ready() -> None:
    if not is_ready() and not os.environ.get("MILLRACE_NO_SKIPS"):
        pytest.skip("the stock clients are not installed; install them with: python -m tests.stock --prepare")


def failures(ended: list[Result]) -> dict[tuple[str, str], str]:
    return {(result.scenario.client, result.scenario.name): result.reason for result in ended if result.reason}


@pytest.mark.timeout(300)
def test_every_stock_client_is_at_home() -> None:
    """One server and one run for them all; the message tells what failed, and why."""
    skip_unless_ready()
    assert failures(asyncio.run(everything())) == {}


@pytest.mark.timeout(300)
def test_every_stock_client_goes_round_with_every_provider() -> None:
    """Two turns with a picture, reasoning and a tool, as each client sends its history back."""
    skip_unless_ready()
    assert failures(rounds.run()) == {}


@pytest.mark.timeout(300)
def test_every_scripted_server_speaks_as_its_provider_does() -> None:
    """To the provider's own SDK, which reads all of it and is refused what the provider refuses."""
    skip_unless_ready()
    assert failures(scripted_servers.run()) == {}


@pytest.mark.timeout(300)
def test_stock_clients_ask_models_of_every_api() -> None:
    """Whole, streamed, with thoughts, tools, pictures and marks; counted, refused and left."""
    skip_unless_ready()
    assert failures(every_api.run()) == {}
