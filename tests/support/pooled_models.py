"""A funnel with scripted models that have several deployments, and others that stand in for them."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from millrace.funnel.calls import Caller
from millrace.funnel.catalog import Catalog
from millrace.funnel.checks import Checks
from millrace.funnel.checks.guards import Guards
from millrace.funnel.funnel import Funnel
from millrace.funnel.health import Health
from millrace.funnel.pools import Pool
from millrace.funnel.recall import Recall
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.routing.router import Router
from millrace.memory import Shares
from millrace.stores.database import MEMORY, SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from millrace.types import Deployment, Model, Request, Strategy, Tier
from tests.support.inline_schemas import InlineSchemas
from tests.support.scripted_models import LARGE, POLICY, SMALL, STOP, ScriptedUpstream, Step

Script = Sequence[Step]


class PooledFunnel:
    """A funnel, and the providers of each model by its name."""

    def __init__(
        self,
        scripts: Mapping[str, Sequence[Script]],
        more: Sequence[Model],
        chains: Mapping[Tier, Sequence[Model]],
        database: SqliteDatabase,
        guards: Guards | None = None,
    ) -> None:
        self.catalog = Catalog(SMALL, LARGE, {}, Strategy.AUTO, chains=chains)
        self.providers = {name: [ScriptedUpstream(script) for script in each] for name, each in scripts.items()}
        pools = [
            Pool(
                model,
                [
                    (Deployment(label=str(number) if len(self.providers[model.name]) > 1 else ""), upstream)
                    for number, upstream in enumerate(self.providers[model.name], 1)
                ],
                time.monotonic,
            )
            for model in (SMALL, LARGE, *more)
        ]
        self.health = Health(pools, self.catalog, time.monotonic, time.time)
        self.funnel = Funnel(
            catalog=self.catalog,
            caller=Caller(self.health, Checks(InlineSchemas()), self.catalog, guards),
            recall=Recall(self.catalog, None, None, guards=guards),
            ledger=SqliteLedger(database),
            wall=time.time,
            policy=POLICY,
            router=Router(time.time),
            places=Shares(lambda: 100, lambda: False),
        )

    def calls(self, name: str) -> list[int]:
        """Return how many calls each deployment of a model got."""
        return [len(provider.attempts) for provider in self.providers[name]]

    async def ask(self, asked: Request) -> ResponseLog:
        """Return the log of a request that has ended."""
        response = ResponseLog(asked, asyncio.get_running_loop().time)
        await self.funnel.answer(response)
        return response


@asynccontextmanager
async def pooled_funnel(
    *small: Script,
    large: Sequence[Script] = (("Large.", STOP),),
    more: Mapping[Model, Script] | None = None,
    chain: Mapping[Tier, Sequence[Model]] | None = None,
    guards: Guards | None = None,
) -> AsyncIterator[PooledFunnel]:
    """Build a funnel whose small model has a deployment for each script. `more` are models that stand in for it.

    They are its chain in this order, unless `chain` says otherwise.
    """
    others = dict(more or {})
    scripts = {"small": small, "large": large, **{model.name: [script] for model, script in others.items()}}
    database = SqliteDatabase(MEMORY)
    try:
        yield PooledFunnel(scripts, [*others], chain or {Tier.SMALL: [*others]}, database, guards)
    finally:
        await asyncio.to_thread(database.close)


def stand_in(name: str, tier: Tier = Tier.SMALL, **fields: Any) -> Model:
    """Return a model that stands in for the small one, or for the large one."""
    return replace(SMALL, **{"tier": tier, "id": f"{name}-model", "own_name": name, **fields})
