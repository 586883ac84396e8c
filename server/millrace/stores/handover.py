"""What other processes on the same data_dir still run when this one starts: their rows stay theirs while they live.

It is so after a rolling restart: the old process drains, and the new one serves already. What the old one still spends
counts for the budgets of the new one as soon as it is settled. Of several workers each has a share of the limits: it
counts its part of what was spent before, and nothing of what the others spend.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal

from msgspec.structs import replace

from millrace import log
from millrace.beat import beat
from millrace.ports import Clock
from millrace.ports.replicas import Worker
from millrace.pricing import NANODOLLAR
from millrace.stores.accounts import Today
from millrace.stores.ledger import SqliteLedger
from millrace.stores.processes import Processes
from millrace.stores.spending import Nanodollars, Others, SqliteSpending
from millrace.stores.workers import LOOK_S
from millrace.types.budget import AccountName, Spent

POLL_S, RETRY_S = 0.25, 1.0
LATEST_ROW_S = 600.0  # a row is opened with the first call, so at most about so long after its request


class Handover:
    """Follows the other processes that live, until they have ended; and reads what accounts have spent."""

    def __init__(
        self,
        ledger: SqliteLedger,
        spending: SqliteSpending,
        processes: Processes | None,
        wall: Clock,
        worker: Worker | None = None,
        *,
        share_of: int = 1,  # workers that count each by itself
    ) -> None:
        self.count: Callable[[AccountName, Decimal], None] = lambda name, dollars: None  # what others have spent
        self._ledger = ledger
        self._spending = spending
        self._processes = processes  # None: the data_dir is not shared
        self._wall = wall
        self._worker = worker
        self._share_of = share_of
        self._seen: frozenset[str] = frozenset()  # all processes that lived at the last look
        self._others = Others()
        self._counted: Nanodollars | None = None  # what the others have spent since then, at the last look
        self._turn = asyncio.Lock()  # for one look after the other

    async def begin(self) -> None:
        """Close the rows that dead processes left open, and find out who lives."""
        self._seen = await self._found()
        living = self._seen if self._worker is None else self._seen & self._worker.strangers
        self._close_left()
        now = self._wall()
        first_open = await self._spending.first_open(living)
        self._others = Others(living, living, min(now, first_open or now) - LATEST_ROW_S)

    async def read(self, names: Collection[AccountName], after_writes: bool) -> Mapping[AccountName, Spent]:  # noqa: FBT001
        """Return what accounts have spent. `after_writes`: what this process has spent may not be on the disk yet."""
        if after_writes:
            await self._spending.written()
        spent = await self._look(names)
        if self._share_of == 1:
            return spent
        return {name: Spent(each.day / self._share_of, each.month / self._share_of) for name, each in spent.items()}

    async def follow(self) -> None:
        """Close what the others leave open when they die, and count what they have spent."""
        while self._others.living or self._worker is not None:
            await beat(POLL_S if self._others.living else LOOK_S)  # a worker counts nothing that others spend
            try:
                seen, self._seen = self._seen, await self._found()
                if seen - self._seen:
                    self._close_left()
                if self._others.living:
                    await self._look((), self._others.living & self._seen)
            except (sqlite3.Error, OSError) as error:  # also late; the next look finds the same
                log.get().warning("another process on this data_dir was not looked at", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _look(
        self, names: Collection[AccountName], living: frozenset[str] | None = None
    ) -> Mapping[AccountName, Spent]:
        """Read accounts, and count what the others have spent since the last look, as it was at the same moment."""
        async with self._turn:
            others = self._others if living is None else replace(self._others, living=living)
            found = await self._spending.snapshot(names, Today.at(self._wall()), others)
            counted, self._counted = self._counted, found.others
            if counted is not None:
                for name, nanodollars in found.others.items():
                    if more := nanodollars - counted.get(name, 0):
                        self.count(name, more * NANODOLLAR / self._share_of)
            self._others = others if others.living else Others()  # they have spent all that they will
        return found.spent

    def _close_left(self) -> None:
        self._ledger.close_left(frozenset if self._processes is None else self._processes.others)

    async def _found(self) -> frozenset[str]:
        return frozenset() if self._processes is None else await asyncio.to_thread(self._processes.others)
