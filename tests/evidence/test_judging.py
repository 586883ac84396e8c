"""The panel: the cheapest judge first, a dearer one where it cannot tell, where much follows, and now and then."""

import asyncio
import random
from collections import Counter

import pytest

from millrace.evidence import judging
from millrace.evidence.judging import Panel
from millrace.types import Lever, Opinion, Sample, Says

SAME, DIFFERENT, UNSURE = Says.SAME, Says.DIFFERENT, Says.UNSURE


class Fixed:
    """Says always the same."""

    def __init__(self, name: str, says: Says) -> None:
        self.name = name
        self.asked = 0
        self._says = says

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Say it."""
        self.asked += 1
        return self._says


class Broken(Fixed):
    """Raises."""

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Raise."""
        raise RuntimeError(question)


class Hung(Fixed):
    """Never returns."""

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Wait."""
        await asyncio.Event().wait()
        return SAME


def sample(lever: Lever) -> Sample:
    """Return one."""
    return Sample(id="smp", lever=lever, tenant="t", request_id="r", taken_at=0.0, probability=1.0)


async def opinions(panel: Panel, lever: Lever = Lever.NEAR_MISS) -> tuple[Opinion, ...]:
    """Return what a panel says."""
    return await panel.opinions(sample(lever), "q", "a", "b")


async def test_a_judge_that_cannot_tell_is_followed_by_the_next_one() -> None:
    """Its word is not kept; that of the next one counts as if it had been first."""
    panel = Panel([Fixed("cheap", UNSURE), Fixed("dear", SAME)], 0.0)
    assert await opinions(panel) == (Opinion(judge="dear", says=SAME),)
    assert await opinions(Panel([Fixed("cheap", UNSURE)], 1.0)) == ()


async def test_what_a_judge_decided_is_checked_with_a_known_probability() -> None:
    """About one in ten, and it says with what probability."""
    panel = Panel([Fixed("cheap", SAME), Fixed("dear", DIFFERENT)], 0.1, random.Random(1))
    found = Counter([await opinions(panel) for _ in range(1000)])
    alone = (Opinion(judge="cheap", says=SAME),)
    checked = (*alone, Opinion(judge="dear", says=DIFFERENT, probability=0.1))
    assert set(found) == {alone, checked}
    assert 70 <= found[checked] <= 130


async def test_a_wrong_hit_is_always_checked() -> None:
    """A near miss is not: nothing is taken out of a cache for it."""
    panel = Panel([Fixed("cheap", DIFFERENT), Fixed("dear", SAME)], 0.0)
    assert [each.judge for each in await opinions(panel, Lever.SEMANTIC)] == ["cheap", "dear"]
    assert [each.judge for each in await opinions(panel, Lever.NEAR_MISS)] == ["cheap"]


async def test_a_judge_that_fails_or_hangs_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is asked."""
    monkeypatch.setattr(judging, "JUDGE_S", 0.01)
    panel = Panel([Broken("broken", SAME), Hung("hung", SAME), Fixed("dear", SAME)], 0.0)
    assert await opinions(panel) == (Opinion(judge="dear", says=SAME),)
