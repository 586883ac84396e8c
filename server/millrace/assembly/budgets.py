"""Limits and budgets of one process: their rules, what was spent, and who is told as they run out."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any

from millrace.assembly.background import running
from millrace.memory import MemoryBudget
from millrace.ports import Clock
from millrace.principal import LimitRules, Limits
from millrace.settings import BudgetsSettings, LimitSettings, LimitsSettings, Settings
from millrace.stores.accounts import Today
from millrace.stores.handover import Handover
from millrace.stores.limits import MOST_BYTES, MemoryLimiter
from millrace.stores.spending import SqliteSpending
from millrace.types.budget import Step, Steps
from millrace.upstreams.webhook import Webhook


@asynccontextmanager
async def limiting(
    settings: Settings, spending: SqliteSpending, handover: Handover, memory: MemoryBudget, clock: Clock, wall: Clock
) -> AsyncIterator[MemoryLimiter]:
    """Count what has limits, in this process and in others that still run on the same data_dir."""
    budgets = settings.budgets
    limiter = MemoryLimiter(clock, wall, handover.read, rules_of(settings.limits), steps_of(budgets))
    memory.add("accounts of limits", lambda: limiter.bytes_used, MOST_BYTES)
    handover.count = limiter.count
    await handover.begin()
    spending.prune(Today.at(wall()))
    async with AsyncExitStack() as parts:
        await parts.enter_async_context(running(handover.follow()))
        if budgets.webhook is not None:
            key = "" if budgets.webhook_key_env is None else os.environ.get(budgets.webhook_key_env, "")
            webhook = Webhook(budgets.webhook, key)
            limiter.on_reached = webhook.tell
            await parts.enter_async_context(running(webhook.run()))
        yield limiter


def limits_of(settings: LimitsSettings) -> Limits:
    """Return the limits of keys that set none of their own."""
    return Limits(**_own(settings), connections=settings.connections)


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
