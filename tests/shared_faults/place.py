"""Replicas in processes of their own, with Redis and PostgreSQL, each behind a proxy of its own for each replica."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from millrace.settings import SharedSettings
from millrace.simulator import LARGE, SMALL, Simulator
from millrace.stores.database import FILE
from tests.fire.programs import Program
from tests.support.ports import free_port
from tests.support.proxy import Proxy, proxy_to
from tests.support.server import without_delays
from tests.support.shared_servers import SharedServer, postgres_server, redis_server, with_tables

TENANTS = ("acme", "brook")
OUTPUT = 10  # dollars of a million tokens of the large model, which is asked for the budget alone
TOKENS, FITS = 20, 30  # of an answer for the budget, and how many of them it has room for
BUDGET = f"{FITS * TOKENS * OUTPUT * 1e-6:.6f}"
NAME = "shared"


@dataclass(slots=True)
class Replica:
    """One replica, and all ways from it and to it."""

    program: Program
    folder: Path
    redis: Proxy
    postgres: Proxy
    peers: Proxy  # by which the other replicas reach it

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return self.program.url

    @property
    def database(self) -> Path:
        """The file of its database."""
        return self.folder / FILE


@dataclass(slots=True)
class Place:
    """All that runs."""

    replicas: Sequence[Replica]
    redis: SharedServer
    spare: SharedServer  # another Redis
    postgres: SharedServer
    small: Simulator
    large: Simulator
    keys: Sequence[str]  # one of each tenant


@asynccontextmanager
async def placed(
    folder: Path, count: int, clocks: Sequence[float] = (), budget: str = BUDGET, workers: int = 1
) -> AsyncIterator[Place]:
    """Run so many replicas, each of so many workers.

    `clocks`: by how many seconds the clock of each is wrong. `budget`: dollars a day of each end user.
    """
    async with AsyncExitStack() as parts:
        redis, spare = parts.enter_context(redis_server()), parts.enter_context(redis_server())
        postgres = parts.enter_context(postgres_server())
        await asyncio.to_thread(with_tables, postgres, NAME)
        small, large = [
            await parts.enter_async_context(Simulator(without_delays(profile))) for profile in (SMALL, LARGE)
        ]
        given = await _keys(folder, postgres)
        many = ("--workers", str(workers)) if workers > 1 else ()
        replicas = []
        for number in range(count):
            port = free_port()
            proxies = [
                await parts.enter_async_context(proxy_to(url))
                for url in (redis.url, postgres.url, f"http://127.0.0.1:{port}")
            ]
            at = folder / f"replica{number}"
            at.mkdir()
            config = at / "millrace.toml"
            config.write_text(_configuration(at, budget, (small, large), *proxies), "utf-8")
            skewed = ("-m", "tests.shared_faults.skewed", str(clocks[number])) if clocks else ("server",)
            program = Program(
                at.name, folder / f"{at.name}.log", port, *skewed, "serve", "--config", str(config), *many
            )
            parts.push_async_callback(program.kill if workers == 1 else program.stop)  # workers are not its own
            replicas.append(Replica(program, at, *proxies))
        await asyncio.gather(*(replica.program.start() for replica in replicas))
        yield Place(replicas, redis, spare, postgres, small, large, given)


def _configuration(
    folder: Path, budget: str, both: tuple[Simulator, Simulator], redis: Proxy, postgres: Proxy, peers: Proxy
) -> str:
    models = "".join(
        f'[models.{name}]\nupstream = "openai"\nbase_url = "{model.base_url}"\nmodel = "{name}-model"\n'
        f'price = {{ input = "0", output = "{output}" }}\n'
        for name, model, output in zip(("small", "large"), both, (1, OUTPUT), strict=True)
    )
    shared = {
        "redis": redis.url.replace("http", "redis", 1) + "/0",
        "postgres": postgres.url.replace("http://", "postgresql://millrace@", 1) + "/postgres",
        "name": NAME,
        "address": peers.url,
    }
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in shared.items())
    return (
        f'[server]\ndata_dir = "{folder}"\n{models}[evidence]\njudged = false\n[checks]\nrepair = false\n'
        f'[funnel]\nhedge_share = 0\n[cache]\nsemantic = false\n[limits.user]\ndollars_per_day = "{budget}"\n'
        f"[budgets.at]\n[shared]\n{lines}\n"
    )


async def _keys(folder: Path, postgres: SharedServer) -> list[str]:
    """Make a key of each tenant, in PostgreSQL."""
    made = [keys.make(tenant=tenant, role=Role.ADMIN, created_at=1.0) for tenant in TENANTS]
    async with key_store(str(folder), SharedSettings(postgres=postgres.url, name=NAME)) as store:
        for key, _ in made:
            await store.add(key)
    return [text for _, text in made]
