"""Streams that run while models, prices, limits and keys change: none is cut, each is billed as it began."""

import asyncio
from pathlib import Path

import pytest

from millrace.simulator import SMALL, Simulator
from tests.support import changing
from tests.support.keys import add_key
from tests.support.live_server import live_server
from tests.support.server import process_of, without_delays
from tests.support.waiting import until


@pytest.mark.timeout(120)
async def test_no_stream_is_cut_and_each_is_billed_at_the_price_it_began_with(tmp_path: Path) -> None:
    """More, for longer, and over ten changes: tests/measure_reload.py."""
    key = await asyncio.to_thread(add_key, tmp_path)
    admin = await asyncio.to_thread(add_key, tmp_path, "--tenant", "acme", "--role", "admin")
    async with (
        Simulator(without_delays(SMALL)) as elsewhere,
        live_server(server={"data_dir": str(tmp_path)}) as live,
    ):
        base_urls = [live.running.small.base_url, elsewhere.base_url]

        async def change(number: int) -> None:
            changing.write(live.configuration, number, base_urls)
            outcome = await live.reload(Authorization=f"Bearer {admin}")
            assert outcome["faults"] == []
            assert "models.small.price.output" in outcome["changed"]

        await change(0)
        funnels = process_of(live.running).funnel
        found = await changing.run(
            live.running.url, tmp_path, base_urls, change, key=key, streams=40, changes=3, tokens=100, rate=10
        )
        assert (found.completed, found.cut, found.misbilled, found.misbooked) == (40, 0, 0, 0), found.why
        assert found.changes == 3
        assert found.most_running == 40
        await until(lambda: not funnels.earlier)
