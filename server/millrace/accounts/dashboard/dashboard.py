"""Reads what the dashboard shows. All but a few milliseconds of it is off the event loop."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Collection

from msgspec.structs import replace

from millrace import log
from millrace.accounts.dashboard import figures as shown, promised
from millrace.accounts.dashboard.filters import Filters
from millrace.accounts.dashboard.rollups import Progress, Rollups
from millrace.accounts.dashboard.story import line, story
from millrace.accounts.dashboard.sums import Sums, decoded, total as added_up
from millrace.errors import MillraceError
from millrace.evidence.report import Reports
from millrace.funnel.routing.report import RouterReports
from millrace.ports import Clock, PastRequests, Rows
from millrace.ports.rollups import EndedRows, RollupStore
from millrace.types import Entry, Price, Selection
from millrace.types.rollup import Part, Span, Window
from millrace.wire import dashboard as wire, ledger

WITHIN = 10_000  # rows that one list is searched in: some 50 ms of a thread
KEPT_S = 10.0  # budgets and promises, until they are read anew
SPARE = 20  # times as long as it took to read them are budgets kept, at least
BUDGETS_S = 1.0  # that is waited for them
KEPT = 64  # of promises
PLACE = "row_"  # begins the name of a place in the list at which no request of it is; no id begins so

_Cells = list[tuple[int, str, bytes]]


class Dashboard:
    """One for a process."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it reads
        self,
        rollups: Rollups,
        store: RollupStore,
        ended: EndedRows,
        past: PastRequests,
        rows: Rows,
        reports: Reports,
        router: RouterReports,
        budgets: Callable[[], Awaitable[list[wire.ShownBudget]]],
        standard: Callable[[], Price | None],
        in_flight: Callable[[str | None], int],
        wall: Clock,
        operators: Collection[str] = (),
    ) -> None:
        """`operators` are the tenants whose admins see all tenants. `budgets` reads those of all.

        `in_flight` returns how many requests of a tenant run, or of all.
        """
        self.rollups = rollups
        self.in_flight = in_flight
        self.operators = operators  # may change at any time
        self._store = store
        self._ended = ended
        self._past = past
        self._rows = rows
        self._reports = reports
        self._router = router
        self._read_budgets = budgets
        self._standard = standard
        self._wall = wall
        self._turn = asyncio.Lock()  # one at a time: the figures of a long window take some 100 ms of a core
        self._budgets: dict[str | None, list[wire.ShownBudget]] | None = None  # by tenant; of all for None
        self._budgets_until = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._promises: dict[tuple[float, str | None, bool], tuple[float, wire.PromisesReport]] = {}

    def sees_all(self, tenant: str) -> bool:
        """Whether the admins of a tenant see all tenants."""
        return tenant in self.operators

    async def figures(self, filters: Filters, *, sees_all: bool) -> wire.FiguresReport:
        """Return the figures of what has ended. Raises `invalid_request`, or `TimeoutError` if the disk is too slow."""
        filters.window(self._wall())  # or say what is wrong with it before anything is read
        async with self._turn:
            await self.rollups.catch_up()
            now = self._wall()
            window = filters.window(now)
            async with self.rollups.turn:
                cells, days = await self._store.cells(window), []
                if window.span is not Span.DAY:
                    first, last = (at // Span.DAY * Span.DAY for at in (window.since, window.until - 1))
                    days = await self._store.cells(replace(window, span=Span.DAY, since=first, until=last + Span.DAY))
                tags = await self._store.tags(window)
                tenants = await self._store.tenants(replace(window, tenant=None)) if sees_all else None
                progress = self.rollups.progress
            return await asyncio.to_thread(_report, window, now, cells, days, tags, tenants, progress)

    async def promises(self, ago_s: float, tenant: str | None, *, is_alone: bool = False) -> wire.PromisesReport:
        """Return what is promised, and whether it holds, as of some seconds ago at most.

        What all have spent together is shown where all are asked for, and to a tenant that `is_alone`.
        """
        now, key = self._wall(), (ago_s, tenant, is_alone)
        kept = self._promises.get(key)
        if kept is not None and now - kept[0] < KEPT_S:
            return kept[1]
        report = await self._reports.report(now - ago_s, tenant)
        promises = await self._router.kept_promises()
        spent = None
        if (tenant is None or is_alone) and promises.promised.spend_per_day is not None:
            today = Filters(since=now // Span.DAY * Span.DAY, since_is_ago=False, span=Span.DAY)
            spent = (await self.figures(today, sees_all=False)).total.cost_usd
        found = wire.PromisesReport(
            since=report.since,
            tenant=tenant,
            judges_now=report.judges_now,
            promises=[promised.wrong_hits(report.semantic), *promised.of_router(promises, tenant, spent)],
            checks=report.checks,
            small=report.small,
            large=report.large,
            near_misses=report.near_misses,
            evidence_cost=report.cost,
        )
        if len(self._promises) >= KEPT:
            self._promises.clear()
        self._promises[key] = now, found
        return found

    async def budgets(self, tenant: str | None) -> list[wire.ShownBudget]:
        """Return the budgets of a tenant, or of all, the scarcest first, as of some seconds ago.

        Raises `TimeoutError` if nothing was read yet. Then, and later, they are read on in the background.
        """
        if self._reading is None and self._wall() >= self._budgets_until:
            self._reading = asyncio.create_task(self._renew_budgets())
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=BUDGETS_S)
        if self._budgets is None:
            raise TimeoutError("budgets are still being read; try again")
        return self._budgets.get(tenant, [])

    async def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait((self._reading,))

    async def _renew_budgets(self) -> None:
        began = self._wall()
        try:
            self._budgets = await asyncio.to_thread(_scarcest, await self._read_budgets())
        except Exception as error:
            log.get().warning("budgets not read", error=str(error) or type(error).__name__)
        finally:
            self._reading = None
            now = self._wall()
            self._budgets_until = now + max(KEPT_S, SPARE * (now - began))

    async def lines(self, filters: Filters, selection: Selection, most: int, after: str | None) -> wire.Lines:
        """Return requests that fit both, the latest end first. Raises `entry_not_found` for an unknown `after`."""
        since, until = filters.between(self._wall())
        selection = replace(
            selection, tenant=filters.tenant, tag=filters.tag, model=filters.model, since=since, until=until
        )
        rows, below = await self._ended.latest(selection, await self._below(after, filters.tenant), most + 1, WITHIN)
        data = [line(row) for row in rows[:most]]
        last = data[-1].id if data else None
        is_cut = len(rows) > most
        if below and not is_cut:  # the last one that was looked at may be another tenant's
            last = f"{PLACE}{below}"
        return wire.Lines(data=data, first_id=data[0].id if data else None, last_id=last, has_more=is_cut or below > 0)

    async def story(self, request_id: str, tenant: str | None) -> wire.StoryReport:
        """Return the whole story of a request. Raises `entry_not_found`."""
        number, entry = await self._found(request_id, tenant)
        rows = await self._past.read([number], stories=True)
        if not rows:  # it has just ended, and got another number
            raise not_found(request_id)
        return story(rows[0], ledger.entry(entry), self._standard())

    async def _below(self, after: str | None, tenant: str | None) -> float:
        """Return the number below which a list goes on."""
        if after is None:
            return math.inf
        number = after.removeprefix(PLACE)
        if number != after and re.fullmatch(r"[0-9]{1,18}", number):
            return int(number)
        return (await self._found(after, tenant, "after"))[0]

    async def _found(self, request_id: str, tenant: str | None, param: str = "id") -> tuple[int, Entry]:
        found = await self._rows.find(request_id, tenant)
        if found is None:
            raise not_found(request_id, param)
        return found


def not_found(request_id: str, param: str = "id") -> MillraceError:
    """Return the error of a request that is not there for who asks."""
    message = f"{param}: the ledger has no request {request_id[:80]!r}; it is written some milliseconds after its end"
    return MillraceError("entry_not_found", message, param=param)


def _scarcest(budgets: list[wire.ShownBudget]) -> dict[str | None, list[wire.ShownBudget]]:
    """Return the budgets of each tenant, and for None of all, of which least is left; there may be many end users'."""
    found: dict[str | None, list[wire.ShownBudget]] = {}
    for budget in sorted(budgets, key=lambda budget: -budget.share):
        for whose in (None, budget.tenant):
            known = found.setdefault(whose, [])
            if len(known) < shown.MOST:
                known.append(budget)
    return found


def _report(
    window: Window,
    now: float,
    cells: _Cells,
    days: _Cells,
    tags: list[Part],
    tenants: list[Part] | None,
    progress: Progress,
) -> wire.FiguresReport:
    models, by_time = _added(cells, window.model)
    by_day = _added(days, window.model)[1] if window.span is not Span.DAY else by_time
    total = added_up(models.values() if window.model is None else by_time.values())
    if tenants is None:  # its own alone
        own = Part(window.tenant or "", total.get("requests"), total.errors, total.get("cost"), total.get("baseline"))
        tenants = [own]
    return wire.FiguresReport(
        now=now,
        since=window.since,
        until=window.until,
        step=window.span.name.lower(),
        step_s=window.span,
        tenant=window.tenant,
        model=window.model,
        tag=None if window.tag is None else window.tag or shown.NO_TAG,
        rollup=wire.RollupState(behind=progress.behind, of=progress.of),
        total=shown.figures(total, min(now, window.until) - window.since),
        series=shown.series(by_time, window.since, window.until, window.span),
        days=shown.days(by_day),
        models=shown.models(models),
        tags=shown.parts(tags),
        tenants=shown.parts(tenants),
    )


def _added(cells: _Cells, model: str | None) -> tuple[dict[str, Sums], dict[int, Sums]]:
    """Return the sums of each model, and those of each time, of one model if one is asked for."""
    models: dict[str, Sums] = {}
    by_time: dict[int, Sums] = {}
    for at, name, kept in cells:
        sums = decoded(kept)
        models.setdefault(name, Sums()).merge(sums)
        if model in (None, name):
            if at in by_time:
                by_time[at].merge(sums)
            else:
                by_time[at] = sums
    return models, by_time
