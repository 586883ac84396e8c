"""`millrace budgets`: what it says where it has nothing to show."""

import asyncio
from decimal import Decimal
from pathlib import Path

import aiohttp
import msgspec

from tests.cli.test_ledger import run
from tests.support.server import Start
from tests.web.test_ledger import asked

MODELS = "".join(
    f"""
    [models.{tier}]
    upstream = "openai"
    base_url = "http://127.0.0.1:1/v1"
    model = "{tier}-model"
    price = {{ input = "1", output = "1" }}
    """
    for tier in ("small", "large")
)


async def test_budgets_that_are_not_wanted_are_not_said_to_be_missing(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "millrace.toml"
    config.write_text(MODELS)
    async with (
        start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running,
        aiohttp.ClientSession(running.url) as http,
    ):
        await asked(http, "One?")
    none = await run(tmp_path, "budgets", "--config", str(config))
    assert "no budget in dollars; set one" in none.stderr
    await asyncio.to_thread(config.write_text, MODELS + '[limits.tenant]\ndollars_per_day = "1"')
    other = await run(tmp_path, "budgets", "--config", str(config), "--tenant", "nobody")
    assert (other.exit_code, other.stderr) == (0, "no budget of these, but 1 other; see --tenant and --kind\n")


async def test_without_keys_the_one_tenant_has_its_budget_before_it_spends(start: Start, tmp_path: Path) -> None:
    """As on the first day of a month, on which nobody has spent anything yet."""
    config = tmp_path / "millrace.toml"
    config.write_text(MODELS + '[limits.tenant]\ndollars_per_day = "1"')
    async with start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))):
        pass
    (line,) = (await run(tmp_path, "budgets", "--config", str(config), "--json")).stdout.splitlines()
    shown = msgspec.json.decode(line)
    assert (shown["tenant"], shown["kind"], Decimal(shown["spent_usd"])) == ("anonymous", "tenant", Decimal(0))
    key_id = (await run(tmp_path, "keys", "add", "--tenant", "acme")).stdout.split("_")[1]
    await run(tmp_path, "keys", "revoke", key_id)
    assert not (await run(tmp_path, "budgets", "--config", str(config), "--json")).stdout, "a revoked key turns auth on"
