"""The judges of a sample, the cheapest first. One that cannot tell is followed by the next, dearer one.

What a judge has decided is checked by the next one now and then, at random with a known probability, so that its own
errors become known. Where a hit is said to be wrong the next one is always asked, since much follows from it.
"""

import asyncio
import random
from collections.abc import Sequence

from millrace import log
from millrace.ports import AnswerJudge
from millrace.types import Lever, Opinion, Sample, Says

JUDGE_S = 30.0  # that a judge may take


class Panel:
    """All judges, the cheapest first."""

    def __init__(
        self, judges: Sequence[AnswerJudge], checked_share: float, chance: random.Random | None = None
    ) -> None:
        self._judges = tuple(judges)
        self._checked_share = checked_share
        self._chance = chance or random.Random()

    async def opinions(self, sample: Sample, question: str, earlier: str, fresh: str) -> tuple[Opinion, ...]:
        """Return what was said, in the order in which it was asked; empty if nobody could tell."""
        said: list[Opinion] = []
        share = 1.0
        for judge in self._judges:
            says = await _said(judge, question, earlier, fresh)
            if says is Says.UNSURE:
                continue
            said.append(Opinion(judge=judge.name, says=says, probability=share))
            is_grave = says is Says.DIFFERENT and sample.lever is Lever.SEMANTIC
            share = 1.0 if is_grave else self._checked_share
            if self._chance.random() >= share:
                break
        return tuple(said)


async def _said(judge: AnswerJudge, question: str, earlier: str, fresh: str) -> Says:
    try:
        async with asyncio.timeout(JUDGE_S):
            return await judge.says(question, earlier, fresh)
    except Exception as error:  # also of somebody's own judge
        log.get().warning("a judge failed", judge=judge.name, error=type(error).__name__)
        return Says.UNSURE
