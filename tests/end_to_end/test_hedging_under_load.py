"""Hedges under load, over real HTTP: what `tests/measure_hedge.py` measures, in short."""

import pytest
from msgspec.structs import replace

from millrace.funnel.ttft import LEAST
from tests.measure_hedge import bench, send

STALL_S = 30.0  # far longer than any hedge takes, also on a slow machine


@pytest.mark.untraced
async def test_a_stalled_provider_does_not_show_and_an_overloaded_one_is_left_alone() -> None:
    """Each stalled call gets company that answers, but for those that are counted. Once all is slow, hedges are off."""
    async with bench(0.5, 0.0, (STALL_S, STALL_S), ttft_s=0.2) as on:
        await send(on, 2 * LEAST, 50, "warm-up")
        on.small.profile = replace(on.small.profile, stall_share=0.1)
        stalled = await send(on, 60, 50, "stalled")
        on.small.profile = replace(on.small.profile, stall_share=0.0)
        hedges = await on.hedges()
        assert stalled.failed == 0
        assert sum(seconds >= STALL_S for seconds in stalled.ttft_s) <= hedges["refused"] + hedges["off"]
        assert hedges["won"] >= 1
        on.slow_down(40)
        await send(on, 60, 30, "slow")
        assert (await on.hedges())["is_off"]
