"""The figures of runs: bills out of the ledger, times, quality; and what each lever took off the bill."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from millrace.pricing import MILLION, NANODOLLAR
from millrace.stores.database import FILE
from millrace.types import EVIDENCE_TENANT
from tests.savings.mix import Mix, Price
from tests.savings.stage import UNCOUNTED, Answered, Ran

QUANTILES = (50, 95, 99)
ZERO = Decimal(0)
BARS = ("exact", "join", "semantic", "routing", "trimming", "prefix", "concise", "waste", "evidence")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger."""

    tag: str
    cache: str
    cost: Decimal  # dollars
    calls: list[dict[str, Any]]

    @property
    def shown(self) -> dict[str, Any]:
        """The call whose answer was shown, or else the last one."""
        return next((call for call in self.calls if call["outcome"] == "answered"), self.calls[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one run. Times are in usual seconds."""

    name: str
    levers: list[str]
    requests: int
    bill: Decimal  # dollars: of the requests and of what evidence asked
    evidence: Decimal  # dollars, part of the bill
    ttft_s: dict[str, float]  # by quantile
    total_s: dict[str, float]
    quality: float  # share of answers that are the large model's
    wrong_hits: int
    failed: int
    cache: dict[str, int]  # requests, by what the caches did
    sources: dict[str, int]  # requests, by who answered
    by_kind: dict[str, dict[str, int]]  # requests, hits and right answers of each kind
    faults: list[str]  # where bills, ledger and models do not agree


def rows_of(folder: Path) -> tuple[list[Row], Decimal]:
    """Return the rows of the counted requests, and what evidence has cost."""
    query = "SELECT tenant, tag, cache, cost_nanodollars, calls FROM entries"
    with closing(sqlite3.connect(folder / "data" / FILE)) as database:
        found = database.execute(query).fetchall()
    evidence = sum((cost * NANODOLLAR for tenant, _, _, cost, _ in found if tenant == EVIDENCE_TENANT), ZERO)
    own = [
        Row(tag, cache, cost * NANODOLLAR, json.loads(calls))
        for tenant, tag, cache, cost, calls in found
        if tenant != EVIDENCE_TENANT and tag != UNCOUNTED
    ]
    return own, evidence


def figures(ran: Ran) -> Figures:
    """Return the figures of a run."""
    rows, evidence = rows_of(ran.folder)
    answered = ran.answered
    return Figures(
        name=ran.setup.name,
        levers=[lever.name for lever in ran.setup.levers],
        requests=len(answered),
        bill=sum((row.cost for row in rows), ZERO) + evidence,
        evidence=evidence,
        ttft_s=quantiles([each.ttft_s for each in answered]),
        total_s=quantiles([each.total_s for each in answered]),
        quality=sum(each.is_right for each in answered) / len(answered),
        wrong_hits=sum(each.is_wrong_hit for each in answered),
        failed=sum(each.status != "completed" for each in answered),
        cache=dict(Counter(each.cache for each in answered)),
        sources=dict(Counter(each.source for each in answered)),
        by_kind=_by_kind(answered),
        faults=faults(ran, rows),
    )


def faults(ran: Ran, rows: list[Row]) -> list[str]:
    """Say where the bills that clients were told, the rows of the ledger and the models' own counts do not agree."""
    by_tag = Counter(row.tag for row in rows)
    counts = ((each.ask.tag, by_tag[each.ask.tag]) for each in ran.answered)
    found = [f"{tag} has {count} rows in the ledger" for tag, count in counts if count != 1]
    told = sum((Decimal(repr(each.cost)).quantize(NANODOLLAR) for each in ran.answered), ZERO)
    if told != (written := sum((row.cost for row in rows), ZERO)):
        found.append(f"clients were told ${told}, the ledger has ${written}")
    with closing(sqlite3.connect(ran.folder / "data" / FILE)) as database:
        calls = [call for (text,) in database.execute("SELECT calls FROM entries") for call in json.loads(text)]
    if any(call["estimated"] for call in calls):
        return found  # of what was cut off; tests/measure_accounting.py looks at that
    for name, stats in ran.stats.items():
        own = [call for call in calls if call["tier"] == name]
        for ours, theirs in (("input_tokens", "input_tokens"), ("output_tokens", "tokens_sent")):
            if (counted := sum(call[ours] for call in own)) != stats[theirs]:
                found.append(f"{name}: {counted} {ours} in the ledger, {stats[theirs]} at the model")
    return found


def waterfall(off: Ran, on: Ran, mix: Mix) -> dict[str, Decimal]:
    """Return what each lever took off the bill, in dollars. Negative: it added that. Their sum is exact.

    Each request is compared to itself without levers, where no input was sold as cached. What a cache answered was
    taken off by that cache. Else: fewer tokens of input at the large model's price are trimming, of output concise.
    Then the difference of the two models' prices is routing, what is off the price of cached input prefix, and every
    call beside the one that was shown is waste.
    """
    before = {row.tag: row for row in rows_of(off.folder)[0]}
    rows, evidence = rows_of(on.folder)
    bars = dict.fromkeys(BARS, ZERO)
    prices = {"small": mix.prices.small, "large": mix.prices.large}
    large = Decimal(mix.prices.large.input), Decimal(mix.prices.large.output)
    for row in rows:
        was = before[row.tag]
        if row.cache in ("exact", "semantic", "joined") and not row.calls:
            bars["join" if row.cache == "joined" else row.cache] += was.cost
            continue
        if not row.calls or not was.calls:  # it failed
            bars["waste"] += was.cost - row.cost
            continue
        shown, then = row.shown, was.shown
        tokens = shown["input_tokens"], shown["output_tokens"]
        bars["trimming"] += large[0] * (then["input_tokens"] - tokens[0]) / MILLION
        bars["concise"] += large[1] * (then["output_tokens"] - tokens[1]) / MILLION
        price = prices[shown["tier"]]
        own = (Decimal(price.input) * tokens[0] + Decimal(price.output) * tokens[1]) / MILLION
        bars["routing"] += (large[0] * tokens[0] + large[1] * tokens[1]) / MILLION - own
        bars["prefix"] += _discount(price, shown)
        bars["waste"] += _of(shown) - row.cost - (_of(then) - was.cost)
    bars["evidence"] = -evidence
    return bars


def _discount(price: Price, call: dict[str, Any]) -> Decimal:
    undiscounted = Decimal(price.input) * int(call["input_tokens"]) + Decimal(price.output) * int(call["output_tokens"])
    return undiscounted / MILLION - _of(call)


def _of(call: dict[str, Any]) -> Decimal:
    return Decimal(int(call["cost_nanodollars"])) * NANODOLLAR


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the nearest ranks, by name."""
    ordered = sorted(values)
    return {f"p{percent}": round(ordered[max(0, -(-percent * len(ordered) // 100) - 1)], 3) for percent in QUANTILES}


def _by_kind(answered: list[Answered]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for each in answered:
        counts = found.setdefault(each.ask.kind, {"requests": 0, "exact": 0, "joined": 0, "semantic": 0, "right": 0})
        counts["requests"] += 1
        counts["right"] += each.is_right
        if each.cache in counts:
            counts[each.cache] += 1
    return found
