"""What a dashboard has to say, counted by hand from the rows of the ledger: plain loops, nothing added up before."""

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from millrace.accounts.waterfall import Waterfall
from millrace.types import EVIDENCE_TENANT, Past

DAY_S = 86_400
STATUSES = ("completed", "incomplete", "cancelled", "failed", "killed")


@dataclass
class Row:
    """One row as SQLite has it."""

    named: dict[str, Any]
    calls: list[dict[str, Any]] = field(default_factory=list)
    story: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.named[name]

    @property
    def model(self) -> str:
        answered = [call["model"] for call in self.calls if call["outcome"] == "answered"]
        if answered or self.calls:
            return str(answered[0] if answered else self.calls[-1]["model"])
        return "(none)" if self.cache == "miss" else "(cache)"

    @property
    def is_request(self) -> bool:
        return bool(self.tenant != EVIDENCE_TENANT)

    @property
    def is_asked(self) -> bool:
        return self.is_request and self.strategy != "embeddings"

    @property
    def judged(self) -> list[str | None]:
        """The check that each answer has failed; one may fail before it is whole, so that nothing says more of it."""
        checks = [each["check"] for each in self.story.get("judgements", [])]
        return checks + (
            [self.failed_check] if self.calls and self.failed_check and self.failed_check not in checks else []
        )

    @property
    def escalated(self) -> str | None:
        """Why the large model came after a small one that had given up."""
        given_up = {"revised"} if self.strategy == "race" else {"revised", "failed"}
        for at, call in enumerate(self.calls):
            if call["tier"] == "small" and call["outcome"] in given_up:
                if not any(later["tier"] == "large" for later in self.calls[at + 1 :]):
                    return None
                judged = [each for each in self.story.get("judgements", []) if each["tier"] == "small"]
                checks = [each["check"] for each in judged if each["check"]] or [self.failed_check]
                failed = self.story.get("failed", [])
                return str(checks[0] or (failed[0][1] if failed else "unknown"))
        return None


def rows_of(connection: sqlite3.Connection) -> list[Row]:
    """Return all that has ended."""
    cursor = connection.execute("SELECT * FROM entries WHERE status != 'open' ORDER BY rowid")
    names = [column[0] for column in cursor.description]
    found = [Row(dict(zip(names, row, strict=True))) for row in cursor]
    for row in found:
        row.calls = msgspec.json.decode(row.named["calls"])
        row.story = msgspec.json.decode(row.named["story"] or "{}")
    return found


def money(nanodollars: int) -> Decimal:
    return Decimal(nanodollars) / 10**9


def exact(numbers: Sequence[float], share: float) -> float | None:
    """Return a percentile by nearest rank."""
    return sorted(numbers)[max(1, math.ceil(share * len(numbers))) - 1] if numbers else None


def percentiles(numbers: Sequence[float], path: str, suffix: str = "") -> dict[str, Any]:
    return {
        f"{path}{name}{suffix}": exact(numbers, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def most(counts: Counter[str], path: str, name: str, number: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for at, (key, count) in enumerate(sorted(counts.items(), key=lambda each: (-each[1], each[0]))):
        found |= {f"{path}.{at}.{name}": key, f"{path}.{at}.{number}": count}
    return found


def bill_of(past: Sequence[Past]) -> Any:
    """Return the levers' bill of some rows, as `GET /v1/levers` has it."""
    waterfall = Waterfall()
    for row in past:
        waterfall.add(row)
    return waterfall.report(since=0, until=0, tenant=None).total


def figures(rows: Sequence[Row], past: Sequence[Past], passed_s: float, path: str = "total") -> dict[str, Any]:
    """Return each number of the figures by its path."""
    asked, mine = [row for row in rows if row.is_asked], [row for row in rows if row.is_request]
    calls = [call for row in asked for call in row.calls]
    bill, cost = bill_of(past), sum(row.cost_nanodollars for row in rows)
    saved = sum(row.saved_nanodollars for row in rows)
    by_status = Counter(row.status for row in mine)
    failed = Counter(
        row.code or "unknown" if row.status == "failed" else "killed"
        for row in mine
        if row.status in ("failed", "killed")
    )
    reasons = Counter(reason for row in asked if (reason := row.escalated))
    judged = [check for row in asked for check in row.judged]
    hits, first = Counter(row.cache for row in asked), Counter(row.calls[0]["tier"] for row in asked if row.calls)
    sources = Counter(row.source or "none" for row in mine)
    contests = [row for row in asked if any(call["outcome"] == "lost" for call in row.calls)]
    won = Counter(
        next((call["tier"] for call in row.calls if call["outcome"] in ("answered", "revised")), None)
        for row in contests
    )
    found: dict[str, Any] = {
        "requests": len(mine),
        "per_second": len(mine) / passed_s,
        "answered": bill.answered,
        **{f"status.{name}": by_status[name] for name in STATUSES},
        **most(failed, "errors", "code", "requests"),
        **most(
            Counter(row.code or "unknown" for row in mine if row.status == "incomplete"),
            "incomplete",
            "code",
            "requests",
        ),
        **_times(mine),
        "cost_usd": money(cost),
        "would_have_cost_usd": money(cost + saved),
        "saved_usd": money(saved),
        "saved_share": share(saved, cost + saved),
        "cost_per_request_usd": money(cost) / len(mine) if mine else None,
        "cost_per_day_usd": money(cost) * DAY_S / Decimal(passed_s),
        "request_cost_usd.count": len(mine),
        **percentiles([row.cost_nanodollars / 1e9 for row in mine], "request_cost_usd."),
        "tokens.input": sum(row.input_tokens for row in mine),
        "tokens.cached_input": sum(row.cached_input_tokens for row in mine),
        "tokens.output": sum(row.output_tokens for row in mine),
        "tokens.reasoning": sum(row.reasoning_tokens for row in mine),
        "tokens.trimmed": sum(row.trimmed_tokens for row in mine),
        **_waterfall(bill),
        "cache.asked": len(asked),
        **{f"cache.{name}": hits[name] for name in ("exact", "semantic", "joined")},
        **{f"cache.{name}_rate": share(hits[name], len(asked)) for name in ("exact", "semantic", "joined")},
        "cache.hit_rate": share(len(asked) - hits["miss"], len(asked)),
        "split.small": sources["small"],
        "split.large": sources["large"],
        "split.large_share": share(sources["large"], sources["small"] + sources["large"]),
        "split.small_first": first["small"],
        "split.large_first": first["large"],
        "split.large_first_share": share(first["large"], first["small"] + first["large"]),
        "escalations.count": reasons.total(),
        "escalations.share": share(reasons.total(), first["small"]),
        **most(reasons, "escalations.reasons", "reason", "requests"),
        **most(Counter(check for check in judged if check), "checks", "check", "failed"),
        "checked": len(judged),
        "races.races": sum(row.strategy == "race" for row in contests),
        "races.hedges": sum(row.strategy != "race" for row in contests),
        "races.won_by_small": won["small"],
        "races.won_by_large": won["large"],
        "races.lost_calls": sum(call["outcome"] == "lost" for call in calls),
        "races.waste_usd": money(sum(call["cost_nanodollars"] for call in calls if call["outcome"] == "lost")),
        **most(Counter(row.strategy for row in mine), "strategies", "strategy", "requests"),
    }
    return {f"{path}.{name}": value for name, value in found.items()}


def _times(mine: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    groups: list[tuple[str, Callable[[Row], bool]]] = [("", lambda _: True)]
    for at, source in enumerate(("small", "large", "cache", "none")):
        some = [row for row in mine if (row.source or "none") == source]
        found |= {f"by_source.{at}.source": source, f"by_source.{at}.requests": len(some)}
        found[f"by_source.{at}.cost_usd"] = money(sum(row.cost_nanodollars for row in some))
        groups.append((f"by_source.{at}.", lambda row, source=source: (row.source or "none") == source))  # type: ignore[misc]
    for prefix, fits in groups:
        first = [row.ttft_ms for row in mine if fits(row) and row.ttft_ms is not None]
        whole = [row.latency_ms for row in mine if fits(row) and row.status != "killed"]
        for name, numbers in (("ttft_ms", first), ("total_ms", whole)):
            found |= {f"{prefix}{name}.count": len(numbers), **percentiles(numbers, f"{prefix}{name}.")}
    return found


def _waterfall(bill: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "waterfall.baseline_usd": bill.baseline_usd,
        "waterfall.cost_usd": bill.cost_usd,
        "waterfall.unknown": bill.unknown,
    }
    for at, each in enumerate(bill.savings):
        for name in ("lever", "requests", "saved_usd", "saved_ms", "estimated"):
            found[f"waterfall.savings.{at}.{name}"] = getattr(each, name)
    for at, each in enumerate(bill.waste):
        for name in ("kind", "requests", "cost_usd"):
            found[f"waterfall.waste.{at}.{name}"] = getattr(each, name)
    return found


def series(rows: Sequence[Row], since: int, until: int, step_s: int) -> dict[str, Any]:
    """Return each number over time by its path."""
    found: dict[str, Any] = {}
    for at, begin in enumerate(range(since, until, step_s)):
        some = [row for row in rows if begin <= row.opened_at < begin + step_s]
        mine, asked = [row for row in some if row.is_request], [row for row in some if row.is_asked]
        cost, saved = sum(row.cost_nanodollars for row in some), sum(row.saved_nanodollars for row in some)
        failed = [row for row in mine if row.status in ("failed", "killed")]
        whole = [row for row in mine if row.status != "killed"]
        point: dict[str, Any] = {
            "at": begin,
            "requests": len(mine),
            "per_second": len(mine) / step_s,
            "errors": len(failed),
            "in_cache": sum(row.source == "cache" for row in mine),
            "by_small": sum(row.source == "small" for row in mine),
            "by_large": sum(row.source == "large" for row in mine),
            "hit_rate": share(sum(row.cache != "miss" for row in asked), len(asked)),
            "escalated": sum(row.escalated is not None for row in asked),
            **percentiles([row.ttft_ms for row in mine if row.ttft_ms is not None], "ttft_", "_ms"),
            **percentiles([row.latency_ms for row in whole], "total_", "_ms"),
            "cost_usd": money(cost),
            "would_have_cost_usd": money(cost + saved),
            "saved_usd": money(saved),
            "cost_per_request_usd": money(cost) / len(mine) if mine else None,
            "slowest_id": max(((row.latency_ms, row.request_id) for row in whole), default=(0, None))[1],
            "dearest_id": max(((row.cost_nanodollars, row.request_id) for row in mine), default=(0, None))[1],
            "failed_id": max(((row.opened_at, row.request_id) for row in failed), default=(0, None))[1],
        }
        found |= {f"series.{name}.{at}": value for name, value in point.items()}
    return found


def parts(
    rows: Sequence[Row], path: str, name_of: Callable[[Row], str], *, times: bool = False, always: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what each model, tag or tenant has, by its path; some `always`, if only that there is nothing."""
    groups: dict[str, list[Row]] = {name: [] for name in always}
    for row in rows:
        groups.setdefault(name_of(row), []).append(row)
    counted = [(sum(row.is_request for row in some), name, some) for name, some in groups.items()]
    found: dict[str, Any] = {}
    for at, (requests, name, some) in enumerate(sorted(counted, key=lambda each: (-each[0], each[1]))):
        mine = [row for row in some if row.is_request]
        first = [row.ttft_ms for row in mine if times and row.ttft_ms is not None]
        whole = [row.latency_ms for row in mine if times and row.status != "killed"]
        part = {
            "name": name or "(none)",
            "requests": requests,
            "errors": sum(row.status in ("failed", "killed") for row in mine),
            "cost_usd": money(sum(row.cost_nanodollars for row in some)),
            "saved_usd": money(sum(row.saved_nanodollars for row in some)),
            "ttft_p50_ms": exact(first, 0.5),
            "ttft_p95_ms": exact(first, 0.95),
            "total_p50_ms": exact(whole, 0.5),
            "total_p95_ms": exact(whole, 0.95),
        }
        found |= {f"{path}.{at}.{key}": value for key, value in part.items()}
    return found


def leaves(document: Any, path: str = "") -> dict[str, Any]:
    """Return each value of a document by its path."""
    if isinstance(document, dict | list):
        pairs = document.items() if isinstance(document, dict) else enumerate(document)
        return {
            inner: value
            for key, one in pairs
            for inner, value in leaves(one, f"{path}.{key}" if path else str(key)).items()
        }
    return {path: document}
