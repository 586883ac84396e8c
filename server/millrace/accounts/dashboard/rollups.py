"""Adds requests up as they end: into cells that are kept, and for whoever watches. Off the event loop.

Rows of the ledger that end get the highest number there is. So what has ended since the last look is what has higher
numbers than were seen, whichever process wrote it, and nothing is done on the way of a request.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct

from millrace import log
from millrace.accounts.dashboard.sums import VERSION, Sums, encoded, merged, total
from millrace.levers import model_of
from millrace.ports import Clock
from millrace.ports.rollups import EndedRows, RollupStore
from millrace.types import Past, Price, Status
from millrace.types.rollup import Cell, CellName, Grouping, Span, forgotten_before

PAGE = 500  # requests that are added up at once: some 25 ms of another thread, between which the loop gets its turn
WATCHED_S, UNWATCHED_S = 1.0, 5.0  # from one look to the next
CAUGHT_UP_S = 0.5  # that who asks for figures waits for the latest requests
FAR = 40 * PAGE  # rows that are behind: more than can be added up while somebody waits
FORGET_S = 3600.0
LATE_S = 60.0  # after its end, from which a request is history to those who watch
REST_S = 0.1  # from one page to the next beside requests that run, which is some five times as long as a page takes
AGAIN_S = 5.0  # after the disk was too slow

Group = tuple[str, str, str]  # tenant, model, tag
N = TypeVar("N")

_At = tuple[int, str, str, str]  # when it begins, and the group


class Ended(Struct, frozen=True):
    """What has ended since the last look, added up and one by one, in the order of the ends."""

    groups: dict[Group, Sums]
    rows: Sequence[Past]


class Progress(Struct, frozen=True):
    """How many numbers of rows are not added up yet, and of how many. Not every number is a request's."""

    behind: int
    of: int


NOTHING = Ended({}, ())


class Rollups:
    """Looks regularly at what has ended, and adds it up."""

    def __init__(
        self,
        rows: EndedRows,
        store: RollupStore,
        wall: Clock,
        standard: Callable[[], Price | None],
        is_busy: Callable[[], bool] = lambda: False,
        is_first: Callable[[], bool] | None = None,
    ) -> None:
        """`standard` returns the large model's price today, for rows that do not tell theirs.

        `is_busy`: whether requests run, beside which a ledger that was there before is added up slowly. `is_first`:
        whether this process is the one of several workers that keeps what it adds up; None: there is one.
        """
        self.progress = Progress(0, 0)
        self._rows = rows
        self._store = store
        self._wall = wall
        self._standard = standard
        self._is_busy = is_busy
        self._is_first = is_first or (lambda: True)
        self._has_siblings = is_first is not None  # whose readers cannot have it add up at once
        self._watchers: set[Callable[[Ended], None]] = set()
        self._through: int | None = None  # None: not read yet
        self._told: int | None = None  # of the last row that those who watch were told of; None: nobody watches
        self._looks_on = False  # another worker keeps what is added up
        self.turn = asyncio.Lock()  # whoever has it reads all of one moment, for nothing is added meanwhile
        self._watched = asyncio.Event()
        self._forget_at = 0.0
        self._handed_over = asyncio.Event()

    def hand_over(self) -> None:
        """Leave what ends from now on to the next process, whose watchers would not be told what this one adds up."""
        self._handed_over.set()

    def watch(self, watcher: Callable[[Ended], None]) -> None:
        """Call it about once a second with what has ended, from now on. It must not raise."""
        self._watchers.add(watcher)
        self._watched.set()

    def unwatch(self, watcher: Callable[[Ended], None]) -> None:
        """Call it no more."""
        self._watchers.discard(watcher)

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    async def run(self) -> None:
        """Look regularly, until cancelled or handed over."""
        while not self._handed_over.is_set():
            try:
                while self._is_due and await self.step():  # noqa: ASYNC110 - it waits for nothing, but lets others work
                    await asyncio.sleep(REST_S if self._is_busy() else 0)
                self._forget()
                wait_s = WATCHED_S if self._watchers or self._has_siblings else UNWATCHED_S
            except Exception as error:
                log.get().warning("not added up yet", error=str(error) or type(error).__name__)
                wait_s = AGAIN_S
            if self._watchers:
                await asyncio.sleep(wait_s)
                continue
            self._watched.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._watched.wait()

    @property
    def _is_due(self) -> bool:
        return not self._handed_over.is_set() and (bool(self._watchers) or self._is_first())

    async def catch_up(self, within_s: float = CAUGHT_UP_S) -> None:
        """Add up what has ended until now, as far as that can be done in so many seconds.

        Where far more is behind, `run` does it, and nobody waits.
        """
        if self.progress.behind > FAR or self._handed_over.is_set() or not self._is_first():
            return  # the first worker looks soon
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while await self.step():
                    pass

    async def step(self) -> bool:
        """Add up the next requests; whether there may be more. Raises `TimeoutError` if the disk is too slow."""
        async with self.turn:
            if not self._is_first():
                return await self._look_on()
            if self._through is None or self._looks_on:
                self._looks_on = False
                self._through = await self._store.through(VERSION)
            after, ended = self._through, NOTHING
            rows, number, top = await self._rows.after(after, PAGE)
            if rows:
                cells, ended = await asyncio.to_thread(self._added, rows)
                self._through = await self._store.add(cells, after, number, merged)
            elif number > after:  # open rows alone
                self._through = await self._store.add((), after, number, merged)
            self.progress = Progress(max(0, top - self._through), top)
            more = await self._tell(after, number, ended)
            return more or (self._through < top and len(rows) == PAGE)

    async def _tell(self, after: int, number: int, ended: Ended) -> bool:
        """Tell those who watch what has ended between two numbers, whoever has added it up: each row once.

        Return whether there is more to tell.
        """
        is_whole = False
        if not self._watchers:
            self._told = None
        elif self._told is None or self._told == after:
            self._told = max(after, number)
        else:  # another process has added up more, or less, than was told here
            rows, number, _ = await self._rows.after(self._told, PAGE)
            self._told = max(self._told, number)
            ended = (await asyncio.to_thread(self._added, rows))[1] if rows else NOTHING
            is_whole = len(rows) == PAGE
        if ended is not NOTHING:
            for watcher in tuple(self._watchers):
                watcher(ended)
        return is_whole

    async def _look_on(self) -> bool:
        """Tell those who watch what has ended, and leave it to the first worker to keep it."""
        if self._through is None or not (self._looks_on and self._watchers):
            self._looks_on = True
            _, _, self._through = await self._rows.after(sys.maxsize, 1)
        rows, number, top = await self._rows.after(self._through, PAGE)
        if rows:
            _, ended = await asyncio.to_thread(self._added, rows)
            for watcher in tuple(self._watchers):
                watcher(ended)
        self._through = max(self._through, number)
        return self._through < top and len(rows) == PAGE

    def _added(self, rows: Sequence[Past]) -> tuple[list[Cell], Ended]:
        standard, now = self._standard(), self._wall()
        minutes_since = forgotten_before(Span.MINUTE, now)
        groups: dict[_At, Sums] = {}
        for row in rows:
            span = Span.MINUTE if row.opened_at >= minutes_since else Span.HOUR
            at = int(row.opened_at // span) * span
            name = (at, row.tenant, model_of(row.calls, row.cache), row.tag)
            sums = groups.get(name)
            if sums is None:
                sums = groups[name] = Sums()
            sums.add(row, standard)
        return [*cells_of(groups, now)], self._ended(rows, groups, now) if self._watchers else NOTHING

    @staticmethod
    def _ended(rows: Sequence[Past], groups: dict[_At, Sums], now: float) -> Ended:
        """Return what those who watch are told: nothing where a ledger is added up that was there before."""
        ends = (row.opened_at + row.latency_ms / 1000 for row in rows if row.status is not Status.KILLED)
        if min(ends, default=0.0) < now - LATE_S:
            return NOTHING
        return Ended(_together(((tenant, model, tag), sums) for (_, tenant, model, tag), sums in groups.items()), rows)

    def _forget(self) -> None:
        now = self._wall()
        if now >= self._forget_at:
            self._forget_at = now + FORGET_S
            self._store.forget(now)


def cells_of(groups: Mapping[_At, Sums], now: float) -> Iterable[Cell]:
    """Yield the cells of all spans that keep so old requests, by tag, tenant and for all. `now` in Unix seconds."""
    tags: dict[_At, Sums] = {**groups}
    for span in Span:
        tags = _together(((name[0] // span * span, *name[1:]), sums) for name, sums in tags.items())
        kept = {name: sums for name, sums in tags.items() if name[0] >= forgotten_before(span, now)}
        tenants = _together(((at, tenant, model, ""), sums) for (at, tenant, model, _), sums in kept.items())
        of_all = _together(((at, "", model, ""), sums) for (at, _, model, _), sums in tenants.items())
        for grouping, cells in ((Grouping.TAG, kept), (Grouping.TENANT, tenants), (Grouping.ALL, of_all)):
            for (at, tenant, model, tag), sums in cells.items():
                yield Cell(
                    name=CellName(grouping, span, at, tenant, model, tag),
                    requests=sums.get("requests"),
                    errors=sums.errors,
                    cost=sums.get("cost"),
                    baseline=sums.get("baseline"),
                    sums=encoded(sums),
                )


def _together(many: Iterable[tuple[N, Sums]]) -> dict[N, Sums]:
    """Return the sums of each name, added up."""
    found: dict[N, list[Sums]] = {}
    for name, sums in many:
        found.setdefault(name, []).append(sums)
    return {name: of[0] if len(of) == 1 else total(of) for name, of in found.items()}
