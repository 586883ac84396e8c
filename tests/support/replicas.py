"""Several servers in one loop that are replicas of one service: the same models, and whatever they share."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from millrace.simulator import LARGE, SMALL, Simulator
from tests.support.ports import free_port
from tests.support.server import Running, configuration_for, serving, without_delays


@asynccontextmanager
async def replicas(
    count: int, shared: dict[str, Any], *, folder: Path | None = None, **sections: dict[str, Any]
) -> AsyncIterator[list[Running]]:
    """Run so many replicas. `shared` is their [shared]; `sections` are added to their configuration.

    Each has a data_dir of its own in `folder`; without one, in memory.
    """
    async with AsyncExitStack() as parts:
        small, large = [
            await parts.enter_async_context(Simulator(without_delays(profile))) for profile in (SMALL, LARGE)
        ]
        running = []
        for number in range(count):
            place = None if folder is None else folder / f"replica{number}"
            running.append(await parts.enter_async_context(replica(small, large, shared, folder=place, **sections)))
        yield running


@asynccontextmanager
async def replica(
    small: Simulator, large: Simulator, shared: dict[str, Any], *, folder: Path | None = None, **sections: Any
) -> AsyncIterator[Running]:
    """Run one replica of those that ask these models. `folder` is its data_dir."""
    configuration = configuration_for(small.base_url, large.base_url)
    if folder is not None:
        configuration["server"]["data_dir"] = str(folder)
    for section, keys in (sections | {"shared": shared}).items():
        configuration[section] = configuration.get(section, {}) | deepcopy(keys)
    port = free_port()
    configuration["shared"]["address"] = f"http://127.0.0.1:{port}"
    connections: set[Any] = set()
    async with serving(configuration, connections=connections, port=port) as url:
        yield Running(url, small, large, connections)
