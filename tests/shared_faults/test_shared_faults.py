"""Short runs of what `python -m tests.shared_faults` does for each fault."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.shared_faults import judge
from tests.shared_faults.__main__ import Plan, run
from tests.shared_faults.load import Load
from tests.shared_faults.place import Place, placed
from tests.support.waiting import PATIENCE_S

SHORT = Plan(replicas=2, per_s=10, before_s=1, seconds=2, after_s=1)
pytestmark = [pytest.mark.untraced, pytest.mark.timeout(240)]


async def test_what_fails_costs_no_answer_no_row_and_no_dollar(tmp_path: Path) -> None:
    outcome = await run("redis-gone", 1, tmp_path, SHORT)
    assert not outcome.wrong
    assert outcome.rows > 20


async def test_workers_share_through_redis_and_postgresql(tmp_path: Path) -> None:
    """Budgets are those of all, rows arrive once, and any worker shows the figures of all."""
    async with placed(tmp_path, 1, workers=2) as place:
        load = Load(place, 1)
        await load.run(3, SHORT.per_s)
        await load.settled()
        found = await judge.ledgers(place)
        assert not [*load.faults, *await judge.wrong(place, load.asked, found, kills=False)]
        async with asyncio.timeout(PATIENCE_S):
            while await _counted(place) != len(found.shared):  # noqa: ASYNC110 - a busy worker may be late
                await asyncio.sleep(0.2)


async def _counted(place: Place) -> float:
    """Return how many requests any worker shows; each key sees those of its tenant."""
    counted = 0.0
    for key in place.keys:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http,
            http.get(f"{place.replicas[0].url}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        assert "millrace_workers 2.0" in lines
        counted += sum(float(line.split()[-1]) for line in lines if line.startswith("millrace_requests_total"))
    return counted
