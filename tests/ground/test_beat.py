"""Those who look as often look in the same moment."""

import asyncio
from itertools import pairwise

from millrace.beat import beat
from tests.support.virtual_time import run_virtually


def test_all_that_look_as_often_do_so_in_the_same_moment() -> None:
    """Whenever they began, and however long their looks take, as long as that is less than half of the pause."""
    looked_at: dict[float, list[float]] = {}

    async def look(begins_s: float, takes_s: float) -> None:
        await asyncio.sleep(begins_s)
        for _ in range(8):
            await beat(0.25)
            looked_at.setdefault(begins_s, []).append(asyncio.get_running_loop().time())
            await asyncio.sleep(takes_s)

    async def looks() -> None:
        await asyncio.gather(look(0.0, 0.0), look(0.07, 0.1), look(0.2, 0.12))

    run_virtually(looks())
    assert len(looked_at) == 3
    for begins_s, moments in looked_at.items():
        assert all(abs(moment / 0.25 - round(moment / 0.25)) < 1e-6 for moment in moments)
        assert 0.125 - 1e-6 <= moments[0] - begins_s <= 0.375 + 1e-6
        assert all(abs(later - earlier - 0.25) < 1e-6 for earlier, later in pairwise(moments))
