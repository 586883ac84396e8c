"""Reports on what the levers did, of many who ask at once."""

import asyncio
import itertools
from collections.abc import Sequence

from millrace.accounts.reports import LeversReports
from millrace.types import Past


class Reads:
    """A ledger without rows that counts how often it is read."""

    def __init__(self) -> None:
        self.times = 0

    async def ended(self, since: float, tenant: str | None = None) -> list[int]:
        self.times += 1
        await asyncio.sleep(0)
        return []

    async def read(self, numbers: Sequence[int], *, stories: bool = False) -> list[Past]:
        raise AssertionError(numbers, stories)


async def test_who_asks_the_same_meanwhile_shares_a_report_that_was_begun_later() -> None:
    reads, clock = Reads(), itertools.count(1_000_000.0, 0.001)
    reports = LeversReports(reads, lambda: next(clock))
    asked = [reports.report(1_000_000 - 3600, "acme") for _ in range(9)]
    found = await asyncio.gather(*asked)
    assert reads.times == 2
    assert {id(each) for each in found[1:]} == {id(found[1])}
    await asyncio.gather(reports.report(1_000_000 - 3600, "other"), reports.report(1_000_000 - 3600, "acme", "tag"))
    assert reads.times == 4
    await reports.report(1_000_000 - 3600, "acme", "tag")
    assert reads.times == 5
