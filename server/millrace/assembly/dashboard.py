"""The dashboard of one process: what adds up its requests, and what it reads."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from millrace.accounts.dashboard.dashboard import Dashboard
from millrace.accounts.dashboard.rollups import Rollups
from millrace.assembly.background import running
from millrace.assembly.budgets import BudgetLine, budget_lines, limits_of, rules_of
from millrace.assembly.postgres import Shared
from millrace.evidence.report import Reports
from millrace.funnel.funnels import Funnels
from millrace.funnel.routing.report import RouterReports
from millrace.memory import Shares
from millrace.ports import KeyStore, Rows
from millrace.principal import Key
from millrace.settings import Settings
from millrace.stores.accounts import Today
from millrace.stores.past import SqlitePast
from millrace.stores.queries import Queries
from millrace.stores.rollups import StoredRollups
from millrace.stores.spending import SqliteSpending
from millrace.types import Price
from millrace.wire.dashboard import ShownBudget

WALL = time.time


@asynccontextmanager
async def dashboard_of(  # noqa: PLR0913, PLR0917 - what it reads
    settings: Callable[[], Settings],
    database: Queries,
    rows: Rows,
    spending: SqliteSpending,
    keys: KeyStore,
    reports: Reports,
    router_reports: RouterReports,
    funnels: Funnels,
    places: Shares,
    is_first: Callable[[], bool] | None,
    shared: Shared | None,
) -> AsyncIterator[Dashboard]:
    """Add up requests as they end, and show that. `settings` returns those that hold now."""

    def standard() -> Price | None:
        return funnels.catalog.large.price

    async def budgets() -> list[ShownBudget]:
        now, known = settings(), await keys.load()
        if not _has_budgets(now, known):
            return []
        today = Today.at(WALL())
        spent, reserved = await spending.all_spent(today)
        if shared is not None:
            spent = await shared.spending.all_spent(today)
        return await asyncio.to_thread(lambda: [*map(_shown, budget_lines(spent, reserved, known, now))])

    store, past = StoredRollups(database), SqlitePast(database)
    rollups = Rollups(past, store, WALL, standard, lambda: places.used > 0, is_first)
    dashboard = Dashboard(
        rollups,
        store,
        past,
        past,
        rows,
        reports,
        router_reports,
        budgets,
        standard,
        lambda tenant: places.used if tenant is None else places.held(tenant),
        WALL,
        settings().dashboard.operators,
    )
    async with running(rollups.run()):
        try:
            yield dashboard
        finally:
            await dashboard.close()


def _has_budgets(settings: Settings, keys: list[Key]) -> bool:
    """Whether there is any, so that what was spent has to be read."""
    rules = rules_of(settings.limits)
    limits = [limits_of(settings.limits), rules.tenant, rules.user, rules.tag, *rules.tenants.values()]
    limits += [*rules.tags.values(), *(key.principal.limits for key in keys if key.revoked_at is None)]
    return any(each.dollars_per_day is not None or each.dollars_per_month is not None for each in limits)


def _shown(line: BudgetLine) -> ShownBudget:
    return ShownBudget(
        kind=line.account.kind.value,
        tenant=line.account.tenant,
        name=line.label,
        period=line.period.value,
        limit_usd=line.limit,
        spent_usd=line.spent,
        reserved_usd=line.reserved,
        left_usd=line.left,
        share=float(line.spent / line.limit) if line.limit else 1.0,
        step=None if line.step is None else line.step.value,
    )
