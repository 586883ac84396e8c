"""The ledger tells what each stage decided of a request, and holds no word of its text."""

import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from millrace.simulator import LARGE, SMALL, Simulator
from millrace.stores.database import FILE
from millrace.types import Story, Tier
from tests.support.http_client import RESPONSES
from tests.support.server import configuration_for, serving, without_delays

SECRET = "herons"  # a word that stands in all texts


async def stories(folder: Path, *asked: dict[str, Any]) -> list[tuple[sqlite3.Row, Story]]:
    """Ask a server; return the rows of its ledger, in order, each with its story."""
    async with Simulator(without_delays(SMALL)) as small, Simulator(without_delays(LARGE)) as large:
        config = configuration_for(small.base_url, large.base_url, data_dir=str(folder))
        async with serving(config) as url, aiohttp.ClientSession(url) as http:
            for body in asked:
                async with http.post(RESPONSES, json=body) as answer:
                    assert answer.status == 200, await answer.text()
    with closing(sqlite3.connect(folder / FILE)) as ledger:
        ledger.row_factory = sqlite3.Row
        rows = ledger.execute("SELECT * FROM entries WHERE tenant = 'anonymous' ORDER BY opened_at").fetchall()
    return [(row, msgspec.json.decode(row["story"], type=Story)) for row in rows]


async def test_each_stage_has_its_say(tmp_path: Path) -> None:
    """An answer of a model, one from the cache, and one with who asked for what."""
    question = {"input": f"How many {SECRET} live on the lake?"}
    named = {"input": f"Name two {SECRET}.", "safety_identifier": "someone", "millrace": {"tag": "birds"}}
    told = await stories(tmp_path, question, question, named)
    (first, answered), (second, hit), (third, _) = told
    assert answered.scores is not None
    assert (answered.scores.tier, answered.scores.labels) == (Tier.SMALL, 0)
    assert answered.route.startswith("small first")
    assert [(each.tier, each.check) for each in answered.judgements] == [(Tier.SMALL, None)]
    assert (second["cache"], hit.route, hit.scores, hit.judgements) == ("exact", "answered before", None, ())
    assert [(row["end_user"], row["tag"]) for row in (first, third)] == [("", ""), ("someone", "birds")]
    prices = [call["price"] for row, _ in told for call in json.loads(row["calls"])]
    assert len(prices) == 2
    assert Decimal(json.loads(first["baseline"])["output"]) > Decimal(prices[0]["output"])
    assert not any(SECRET in str(value) for row, _ in told for value in tuple(row))
