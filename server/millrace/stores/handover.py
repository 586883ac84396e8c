"""What other processes on the same data_dir still run when this one starts: their rows stay theirs while they live.

It is so after a rolling restart: the old process drains, and the new one serves already. What the old one still spends
counts for the budgets of the new one as soon as it is settled.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from decimal import Decimal

from millrace import log
from millrace.ports import Clock
from millrace.pricing import ZERO
from millrace.stores.ledger import Spent, SqliteLedger
from millrace.stores.processes import Processes

POLL_S, RETRY_S = 0.25, 1.0
LATEST_ROW_S = 600.0  # a row is opened with the first call, so at most about so long after its request


class Handover:
    """Follows the other processes that live, until they have ended."""

    def __init__(self, ledger: SqliteLedger, processes: Processes | None, wall: Clock) -> None:
        self._ledger = ledger
        self._processes = processes  # None: the data_dir is not shared
        self._wall = wall
        self._living: frozenset[str] = frozenset()
        self._since = 0.0  # all requests of other processes that were opened before it have ended, in Unix seconds
        self._spent: Spent = {}  # by requests of other processes that were opened later, as far as counted

    async def begin(self, day: float) -> Spent:
        """Close the rows that dead processes left open; return dollars by key, spent since `day` (Unix seconds)."""
        self._living = await self._others()
        self._ledger.close_left(self._living)
        first_open = await self._ledger.first_open(self._living)
        now = self._wall()
        self._since = max(day, min(now, first_open or now) - LATEST_ROW_S)
        spent = await self._ledger.spent_since(day, self._since, self._living)
        self._spent = await self._ledger.spent_since(self._since, living=self._living)
        return {key: spent.get(key, ZERO) + self._spent.get(key, ZERO) for key in spent.keys() | self._spent.keys()}

    async def follow(self, count: Callable[[str, Decimal], None]) -> None:
        """Close what the others leave open when they die, and call `count` with a key and what they have spent."""
        while self._living:
            await asyncio.sleep(POLL_S)
            try:
                await self._look(count)
            except (sqlite3.Error, OSError) as error:  # also late; the next look finds the same
                log.get().warning("another process on this data_dir was not looked at", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _look(self, count: Callable[[str, Decimal], None]) -> None:
        living = self._living & await self._others()
        if living != self._living:
            self._ledger.close_left(living)
        spent = await self._ledger.spent_since(self._since, living=living)
        for key, dollars in spent.items():
            more = dollars - self._spent.get(key, ZERO)
            if more:
                count(key, more)
        self._spent, self._living = spent, living

    async def _others(self) -> frozenset[str]:
        return frozenset() if self._processes is None else await asyncio.to_thread(self._processes.others)
