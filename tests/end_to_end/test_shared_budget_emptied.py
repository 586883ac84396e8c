"""Redis is emptied and a replica killed: what that has spent of a budget is still spent."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psycopg
import pytest
from redis.asyncio import Redis

from millrace.simulator import SMALL, Simulator
from tests.support.processes import address, spawn
from tests.support.server import without_delays
from tests.support.shared_servers import SharedServer, postgres_server, with_tables
from tests.support.waiting import PATIENCE_S

TOKENS = 100  # of an answer, which costs the whole budget of a user


@pytest.fixture(scope="module")
def postgres() -> Iterator[SharedServer]:
    with postgres_server() as server:
        yield server


@asynccontextmanager
async def replica(folder: Path, model: str, shared: str) -> AsyncIterator[tuple[str, "subprocess.Popen[str]"]]:
    await asyncio.to_thread(folder.mkdir)
    models = "".join(
        f'[models.{tier}]\nupstream = "openai"\nbase_url = "{model}"\nmodel = "{tier}-model"\n'
        'price = { input = "0", output = "10" }\n'
        for tier in ("small", "large")
    )
    config = folder / "millrace.toml"
    await asyncio.to_thread(
        config.write_text,
        f'[server]\nport = 0\ndata_dir = "{folder}"\n{models}[evidence]\njudged = false\n'
        f'[limits.user]\ndollars_per_day = "{TOKENS * 10e-6:.6f}"\n{shared}',
    )
    arguments = ("serve", "--config", str(config))
    with spawn("server", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield await asyncio.to_thread(address, process), process
        finally:
            process.kill()


async def asked(url: str, user: str) -> str:
    """Ask; return how it ended."""
    body = {
        "input": f"talk of mills [tokens={TOKENS}]",
        "user": user,
        "max_output_tokens": TOKENS,
        "millrace": {"cache": "off"},
    }
    async with aiohttp.ClientSession(url) as http, asyncio.timeout(PATIENCE_S):
        while True:
            async with http.post("/v1/responses", json=body) as answer:
                document = await answer.json()
            if answer.status == 200:
                return str(document["status"])
            if document["error"]["code"] != "rate_limit_exceeded":
                return str(document["error"]["code"])
            await asyncio.sleep(0.1)


async def test_it_is_spent_for_a_replica_that_has_never_asked(
    redis: SharedServer, postgres: SharedServer, tmp_path: Path
) -> None:
    name = with_tables(postgres, "emptied")
    shared = f'[shared]\nredis = "{redis.url}"\npostgres = "{postgres.url}"\nname = "{name}"\n'
    async with (
        Simulator(without_delays(SMALL)) as model,
        replica(tmp_path / "one", model.base_url, shared) as (one, process),
        replica(tmp_path / "two", model.base_url, shared) as (two, _),
        await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as rows,
        Redis.from_url(redis.url) as client,
    ):
        assert await asked(one, "ann") == "completed"
        async with asyncio.timeout(PATIENCE_S):
            while await (await rows.execute("SELECT count(*) FROM emptied.entries")).fetchone() != (1,):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await client.flushall()
        process.kill()
        assert await asked(two, "ann") == "budget_exceeded"
        assert await asked(two, "bob") == "completed"
