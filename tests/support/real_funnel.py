"""All the parts of a server but its sockets, with two simulated models over real HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millrace import settings
from millrace.assembly import assembled
from millrace.funnel.funnel import Funnel
from millrace.simulator import LARGE, SMALL, Simulator
from tests.support.server import configuration_for, without_delays


@asynccontextmanager
async def real_funnel() -> AsyncIterator[tuple[Funnel, Simulator, Simulator]]:
    """Yield the funnel, the small model and the large one; both answer at once."""
    async with (
        Simulator(without_delays(SMALL)) as small,
        Simulator(without_delays(LARGE)) as large,
        assembled(settings.build(configuration_for(small.base_url, large.base_url), {})) as process,
    ):
        yield process.funnel.current, small, large
