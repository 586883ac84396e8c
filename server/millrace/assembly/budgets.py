"""Limits and budgets of one process: their rules, what was spent, and who is told as they run out."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec import Struct

from millrace.access.keys import ANONYMOUS
from millrace.assembly.background import running
from millrace.assembly.postgres import ALONE, opened_postgres, spending_of
from millrace.memory import MemoryBudget
from millrace.ports import Clock
from millrace.pricing import NANODOLLAR, ZERO
from millrace.principal import Key, LimitRules, Limits
from millrace.settings import BudgetsSettings, LimitSettings, LimitsSettings, Settings, SharedSettings
from millrace.stores.accounts import Today
from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.handover import Handover
from millrace.stores.keys import StoredKeys
from millrace.stores.ledger import SqliteLedger
from millrace.stores.limits import MOST_BYTES, MemoryLimiter
from millrace.stores.spending import Nanodollars, SqliteSpending
from millrace.types import EVIDENCE_TENANT
from millrace.types.budget import AccountKind, AccountName, Period, Spent, Step, Steps, step_at
from millrace.upstreams.webhook import PAUSES_S, Webhook


@asynccontextmanager
async def limiting(
    settings: Settings,
    spending: SqliteSpending,
    handover: Handover,
    memory: MemoryBudget,
    clock: Clock,
    wall: Clock,
    share_of: int = 1,
) -> AsyncIterator[tuple[MemoryLimiter, Callable[[BudgetsSettings], None]]]:
    """Count what has limits, in this process and in others that still run on the same data_dir.

    Each of `share_of` workers has its share. Yield who does it, and what has other settings say who is told as a budget
    runs out.
    """
    budgets = settings.budgets
    limiter = MemoryLimiter(clock, wall, handover.read, rules_of(settings.limits), steps_of(budgets), share_of=share_of)
    memory.add("accounts of limits", lambda: limiter.bytes_used, MOST_BYTES)
    handover.count = limiter.count
    await handover.begin()
    spending.prune(Today.at(wall()))
    async with AsyncExitStack() as parts:
        await parts.enter_async_context(running(handover.follow()))
        webhook = Webhook(budgets.webhook, _webhook_key(budgets), PAUSES_S)
        limiter.on_reached = webhook.tell
        await parts.enter_async_context(running(webhook.run()))
        yield limiter, lambda budgets: webhook.renew(budgets.webhook, _webhook_key(budgets))


def _webhook_key(budgets: BudgetsSettings) -> str:
    return "" if budgets.webhook_key_env is None else os.environ.get(budgets.webhook_key_env, "")


def limits_of(settings: LimitsSettings) -> Limits:
    """Return the limits of keys that set none of their own."""
    return Limits(**_own(settings), max_output_tokens=settings.max_output_tokens, connections=settings.connections)


def rules_of(settings: LimitsSettings) -> LimitRules:
    """Return the limits of all that has no key."""
    tenant, tag = Limits(**_own(settings.tenant)), Limits(**_own(settings.tag))
    return LimitRules(
        tenant=tenant,
        tenants={each.name: Limits(**_own(each)).with_defaults(tenant) for each in settings.tenants},
        user=Limits(**_own(settings.user)),
        tag=tag,
        tags={each.name: Limits(**_own(each)).with_defaults(tag) for each in settings.tags},
    )


def steps_of(settings: BudgetsSettings) -> Steps:
    """Return what is done from which share of a budget on."""
    return tuple(sorted((Decimal(share), Step(step)) for share, step in settings.at.items()))


def _own(settings: LimitSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in LimitSettings.__struct_fields__}


class BudgetLine(Struct, frozen=True, kw_only=True):
    """One budget in dollars, as the ledger knows it."""

    account: AccountName
    label: str  # the key's name, if it has one
    period: Period
    limit: Decimal
    spent: Decimal
    reserved: Decimal  # by requests that run, at the most they have booked
    step: Step | None

    @property
    def left(self) -> Decimal:
        """Dollars that are neither spent nor reserved."""
        return max(ZERO, self.limit - self.spent - self.reserved)


def budget_lines(
    spent: Mapping[AccountName, Spent], reserved: Mapping[AccountName, int], keys: Iterable[Key], settings: Settings
) -> list[BudgetLine]:
    """Return all budgets: of keys, tenants and named tags, and of the users and tags that have spent this month.

    Where there are no keys, the one tenant has its budget before it spends, too.
    """
    rules, steps, defaults = rules_of(settings.limits), steps_of(settings.budgets), limits_of(settings.limits)
    keys = [*keys]
    valid = [key for key in keys if key.revoked_at is None]
    names = {AccountName(AccountKind.KEY, key.principal.tenant, key.principal.key_id): key for key in valid}
    limits = {name: key.principal.limits.with_defaults(defaults) for name, key in names.items()}
    tenants = {key.principal.tenant for key in valid} | {each.name for each in settings.limits.tenants}
    if not keys:
        tenants.add(ANONYMOUS.tenant)
    for name in (*(AccountName(AccountKind.TENANT, tenant) for tenant in sorted(tenants)), *spent, *reserved):
        if name.tenant != EVIDENCE_TENANT and name.kind is not AccountKind.KEY:
            limits.setdefault(name, rules.of(name))
    lines = []
    for name, limited in limits.items():
        dollars, held = spent.get(name, Spent(ZERO, ZERO)), reserved.get(name, 0) * NANODOLLAR
        for period, limit, used in (
            (Period.DAY, limited.dollars_per_day, dollars.day),
            (Period.MONTH, limited.dollars_per_month, dollars.month),
        ):
            if limit is not None:
                label = names[name].name or name.name if name in names else name.label
                step = step_at(steps, used, limit)
                line = BudgetLine(
                    account=name, label=label, period=period, limit=limit, spent=used, reserved=held, step=step
                )
                lines.append(line)
    return sorted(lines, key=lambda line: ([*AccountKind].index(line.account.kind), line.account, line.period))


async def read_budgets(
    settings: Settings, data_dir: str, now: float, shared: SharedSettings = ALONE
) -> list[BudgetLine]:
    """Return all budgets as they are in PostgreSQL or on the disk; no server is needed, or disturbed.

    What running requests have reserved is always that of the data_dir.
    """
    today = Today.at(now)
    async with opened_postgres(shared) as remote:
        keys: list[Key] = []
        spent: Mapping[AccountName, Spent] = {}
        reserved: Mapping[AccountName, int] = {}
        if await asyncio.to_thread(Path(data_dir, FILE).exists):
            keys, spent, reserved = await _on_disk(data_dir, today)
        elif remote is None:
            raise FileNotFoundError("it has no database yet")
        if remote is not None:
            keys, spent = await StoredKeys(remote).load(), await spending_of(remote).all_spent(today)
        return budget_lines(spent, reserved, keys, settings)


async def _on_disk(data_dir: str, today: Today) -> tuple[list[Key], dict[AccountName, Spent], Nanodollars]:
    """Return the keys, and what each account has spent and reserved."""
    database = await asyncio.to_thread(SqliteDatabase, data_dir)
    try:
        keys, _, spending = StoredKeys(database), SqliteLedger(database), SqliteSpending(database)
        await database.ready()
        return await keys.load(), *await spending.all_spent(today)
    finally:
        await asyncio.to_thread(database.close)
