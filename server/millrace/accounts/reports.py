"""Reads past requests in pages and adds up what the levers did for them."""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from millrace.accounts.waterfall import Waterfall
from millrace.ports import Clock, PastRequests
from millrace.types import Past, Price
from millrace.wire import levers as wire

PAGE = 500  # requests that are read at once: some 20 ms of another thread, between which the loop gets its turn

Progress = Callable[[int, int], None]  # requests that were read, and all


class _Made(Struct, frozen=True):
    """The last report that was made out."""

    wish: tuple[str | None, str | None, int]  # tenant, by, and the seconds of the window
    begun_at: float
    report: wire.LeversReport


class LeversReports:
    """The bills of any window. One at a time is made out: it takes some 30 µs a request.

    Who waits for a turn takes the report that another has got meanwhile, if it is of the same wish and was begun later.
    """

    def __init__(self, past: PastRequests, wall: Clock, standard: Price | None = None) -> None:
        """`wall` in Unix seconds. `standard` is the large model's price today, for rows that do not tell theirs."""
        self._past = past
        self._wall = wall
        self._standard = standard
        self._turn = asyncio.Lock()
        self._made: _Made | None = None

    async def report(
        self,
        since: float,
        tenant: str | None = None,
        by: str | None = None,
        on_read: Progress = lambda read, of_all: None,
    ) -> wire.LeversReport:
        """Report on the requests that were opened since then (Unix seconds) and have ended.

        `by` is one of `wire.BY`. Raises `TimeoutError` if the disk is too slow.
        """
        asked_at = self._wall()
        wish = tenant, by, round(asked_at - since)
        async with self._turn:
            made, until, waterfall = self._made, self._wall(), Waterfall(by=by, standard=self._standard)
            if made is not None and made.wish == wish and made.begun_at > asked_at:
                return made.report
            numbers = await self._past.ended(since, tenant)
            for begin in range(0, len(numbers), PAGE):
                page = await self._past.read(numbers[begin : begin + PAGE])
                await asyncio.to_thread(_add, waterfall, page)
                on_read(min(begin + PAGE, len(numbers)), len(numbers))
            report = await asyncio.to_thread(waterfall.report, since=since, until=until, tenant=tenant)
            self._made = _Made(wish, until, report)
            return report


def _add(waterfall: Waterfall, rows: list[Past]) -> None:
    for row in rows:
        waterfall.add(row)
