"""How well the router ranks requests by their gain while it learns from traffic, as a server would see it.

`python -m tests.measure_router FOLDER [STREAMS]`. The folder has `mmlu.jsonl`: prompts, and whether two models answered
them rightly. Rows are streamed once, in random order; the others are held out. The small model is asked first. A check
flags a wrong answer with probability 0.8 and a right one with 0.1. Where it flags the small answer, the large one is
given, checked too, and both are compared; else they are for 2 % of the requests. A judge says "same" of two right
answers, "different" of a right and a wrong one, and either of two wrong ones.

APGR is the mean, over all shares of requests for the large model, of the part of its advantage that is kept.
"""

import asyncio
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from rich.console import Console
from rich.table import Table

from millrace.funnel.routing.curves import Ranked
from millrace.funnel.routing.features import Features, features_of
from millrace.funnel.routing.router import Router
from millrace.types import (
    CacheMode,
    Delivery,
    Judged,
    Lever,
    Message,
    Opinion,
    Prompt,
    Request,
    Sample,
    Says,
    Strategy,
    Tier,
    Verdict,
)
from tests.support.router_store import MemoryRouterStore

STREAMED, EVERY = 5000, 500
STREAMS = 10
CATCH, FALSE_ALARM, SHADOW = 0.8, 0.1, 0.02
TENANT = "acme"


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, and whether the models' answers are right."""

    prompt: str
    small: bool
    large: bool

    @property
    def request(self) -> Request:
        """The request with the prompt."""
        return Request(
            id=f"resp_{id(self)}",
            tenant=TENANT,
            model="auto",
            strategy=Strategy.AUTO,
            delivery=Delivery.COMMIT,
            cache=CacheMode.OFF,
            prompt=Prompt(messages=(Message(role="user", parts=(self.prompt,)),)),
            metadata={},
        )


def rows_of(file: Path) -> list[Row]:
    """Read the rows."""
    found = map(json.loads, file.read_bytes().splitlines())
    return [Row(each["prompt"], bool(each["small_correct"]), bool(each["large_correct"])) for each in found]


class Traffic:
    """Requests that a router routes and learns from, one after the other."""

    def __init__(self, seed: int) -> None:
        self.router = Router(lambda: self.now)
        self.now = 1e9
        self._chance = random.Random(seed)
        self.router.learning.known(TENANT)
        asyncio.run(self.router.learning.read(MemoryRouterStore()))

    def answer(self, row: Row) -> None:
        """Answer one request, small first, and have all learned that a server would learn of it."""
        self.now += 1
        request, chance = row.request, self._chance
        advice = self.router.advise(request)
        verdicts = [(Tier.SMALL, self._verdict(right=row.small))]
        is_flagged = not verdicts[0][1].passed
        if is_flagged:
            verdicts.append((Tier.LARGE, self._verdict(right=row.large)))
        self.router.judged(request, advice, verdicts)
        if is_flagged and verdicts[1][1].passed:
            self._pair(row, Lever.CHECK, advice.features, 1.0)
        elif not is_flagged and chance.random() < SHADOW and self._verdict(right=row.large).passed:
            self._pair(row, Lever.SMALL, advice.features, SHADOW)
        self.router.learning.teach()

    def gains(self, features: Sequence[Features]) -> list[float]:
        """Return the scores of prompts."""
        heads = self.router.learning.known(TENANT).heads
        return [heads.gain(each) for each in features]

    def _verdict(self, *, right: bool) -> Verdict:
        flagged = self._chance.random() < (FALSE_ALARM if right else CATCH)
        return Verdict(check="unsure" if flagged else None)

    def _pair(self, row: Row, lever: Lever, memo: bytes, probability: float) -> None:
        same = row.small and row.large if row.small or row.large else self._chance.random() < 0.5
        sample = Sample(
            id=f"smp_{self.now}",
            lever=lever,
            tenant=TENANT,
            request_id="",
            taken_at=self.now,
            probability=probability,
            detail="unsure" if lever is Lever.CHECK else "",
            prompt_features=memo,
        )
        says = Says.SAME if same else Says.DIFFERENT
        self.router.learn([Judged(sample=sample, opinions=(Opinion(judge="answers", says=says),))])


def streamed(
    rows: Sequence[Row], seed: int, requests: int = STREAMED, every: int = EVERY
) -> Iterator[tuple[float, float]]:
    """Yield the APGR of the router and of the length, on the rows held out, after so many requests each time."""
    order = random.Random(seed).sample(rows, len(rows))
    held_out = order[requests:]
    features = [features_of(row.request.prompt) for row in held_out]
    small, large = np.array([row.small for row in held_out], float), np.array([row.large for row in held_out], float)
    by_length = Ranked(np.array([len(row.prompt) for row in held_out], float), small, large).curve().apgr
    traffic = Traffic(seed)
    for number, row in enumerate(order[:requests], 1):
        traffic.answer(row)
        if number % every == 0:
            yield Ranked(np.array(traffic.gains(features)), small, large).curve().apgr, by_length


def main(folder: str, streams: int = STREAMS) -> None:
    """Print the table."""
    console = Console()
    rows = rows_of(Path(folder, "mmlu.jsonl"))
    found = []
    for seed in range(streams):
        found.append([*streamed(rows, seed)])
        console.print(f"stream {seed + 1} of {streams}: {found[-1][-1][0]:.3f} at the end", style="dim")
    table = Table("requests", "APGR", "spread", "lowest", "length alone", "at least")
    for at, points in enumerate(zip(*found, strict=True), 1):
        scores, lengths = zip(*points, strict=True)
        is_last = at * EVERY == STREAMED
        least = 0.59 if is_last else mean(lengths) - 0.02
        numbers = (mean(scores), stdev(scores), min(scores), mean(lengths), least)
        table.add_row(f"{at * EVERY:,}", *(f"{number:.3f}" for number in numbers))
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
