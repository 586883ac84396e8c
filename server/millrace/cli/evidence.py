"""`millrace evidence`: how often cheap answers were right, what it cost to know, and what changed by it."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from millrace import assembly
from millrace.cli import configuration
from millrace.cli.cache import json_option, tenant_option
from millrace.cli.db import check_fitness
from millrace.cli.keys import data_dir_option
from millrace.cli.printed import print_report
from millrace.settings import CacheSettings, EvidenceSettings, SharedSettings
from millrace.wire import evidence as wire

UNKNOWN = "not known yet"
SCOPE_SHOWN = 12  # characters of a scope in a table


class Ago(click.ParamType[float]):
    """A duration, as seconds."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return its seconds."""
        found = wire.seconds(value) if isinstance(value, str) else value
        if found is None:
            self.fail(f"{value!r} is no duration; {wire.DURATION}", param, ctx)
        return found


@click.command()
@click.option("--since", "ago_s", type=Ago(), default=wire.SINCE, show_default=True, help="How far back to look.")
@tenant_option
@json_option
@configuration.config_option
@data_dir_option
def evidence(*, ago_s: float, tenant: str | None, as_json: bool, config: Path, data_dir: str | None) -> None:
    """Show how often cheap answers were right, by lever, with bounds of 95 %, what it cost, and what changed by it.

    It works beside a running server and without one. What was judged a while ago is forgotten
    (evidence.keep_days). docs/evidence.md says what is judged, and how the bounds are made.
    """
    report = _report(config, data_dir, ago_s, tenant)
    print_report(report, _parts, as_json=as_json)


def _report(config: Path, data_dir: str | None, ago_s: float, tenant: str | None) -> wire.EvidenceReport:
    if data_dir is None:
        loaded = configuration.load(config)
        folder, evidence_settings, cache_settings = loaded.server.data_dir, loaded.evidence, loaded.cache
        shared = loaded.shared
        check_fitness(shared)
    else:
        folder, evidence_settings, cache_settings = data_dir, EvidenceSettings(), CacheSettings()
        shared = SharedSettings()

    async def run() -> wire.EvidenceReport:
        async with assembly.evidence_reports(folder, evidence_settings, cache_settings, shared) as reports:
            return await reports.report(time.time() - ago_s, tenant)

    return configuration.run_on(
        folder, run, endpoint="/v1/evidence", nothing="no evidence", unable="cannot read the evidence"
    )


def _parts(report: wire.EvidenceReport) -> Iterator[Any]:
    """Yield tables and lines."""
    if not report.judges_now:
        yield "Nothing is judged now: evidence.judged is false."
    yield _levers(report)
    for title, rows in (("tenant", report.semantic.tenants), ("scope", report.semantic.scopes)):
        if rows:
            yield _hits(title, rows)
    if report.checks:
        yield _checks(report.checks)
    if report.judges:
        yield _judges(report.judges)
    if report.changes:
        yield _changes(report.changes)
    if (cost := report.cost) is not None:
        today = f"${cost.today_usd:.4f} today, of ${cost.most_per_day_usd:.2f} a day"
        yield f"Cost to know: ${cost.cost_usd:.4f} for {cost.requests:,} requests since {_at(report.since)}; {today}."
    feedback = report.feedback
    yield f"Feedback: {feedback.up:,} up, {feedback.down:,} down, {feedback.better:,} with a better answer."


def _levers(report: wire.EvidenceReport) -> Table:
    semantic = report.semantic
    table = Table("lever", "judged", "what was counted", "share", "95 % bounds", "judged since", "")
    promise = f"at most {_percent(semantic.promised)} promised; {_needed(semantic.needed)}"
    rows = [("semantic hits", "were wrong", semantic.wrong, promise)]
    rows += [("near misses", "not served, but the answer was the same", report.near_misses, "")]
    rows += [("small", "the large model said the same", report.small, "")]
    rows += [("large", "the small model said the same", report.large, "")]
    for lever, counted, rate, note in rows:
        table.add_row(*map(Text, (lever, f"{rate.judged:,}", counted, *_rate(rate), note)))
    return table


def _hits(title: str, rows: list[wire.ShownHits]) -> Table:
    names = ("tenant",) if title == "tenant" else ("tenant", "scope")
    table = Table(*names, "judged hits", "wrong", "95 % bounds", "judged since", "strictness", "")
    for each in rows:
        place = (each.tenant,) if title == "tenant" else (each.tenant, each.scope[:SCOPE_SHOWN])
        note = "off: serves nothing for now" if each.off else _needed(each.needed)
        cells = (*place, f"{each.wrong.judged:,}", *_rate(each.wrong), f"{each.strictness:+.2f}", note)
        table.add_row(*map(Text, cells))
    return table


def _checks(checks: list[wire.ShownCheck]) -> Table:
    table = Table("check", "of wrong answers it flags", "of right ones", "took back", "needlessly", "")
    for each in checks:
        rates = [_bounded(rate) for rate in (each.catch, each.false_alarms)]
        note = f"off for {', '.join(each.off)}: does not separate" if each.off else ""
        table.add_row(*map(Text, (each.check, *rates, f"{each.needless.judged:,}", _bounded(each.needless), note)))
    return table


def _bounded(rate: wire.ShownRate) -> str:
    share, bounds, _ = _rate(rate)
    return f"{share}, {bounds}" if bounds else share


def _judges(judges: list[wire.ShownJudge]) -> Table:
    table = Table("judge", "said", "checked", 'says "same" of what differs', 'says "different" of the same')
    for each in judges:
        errors = [_error(each.misses, each.misses_upper), _error(each.alarms, each.alarms_upper)]
        table.add_row(*map(Text, (each.judge, f"{each.said:,}", f"{each.compared:,}", *errors)))
    return table


def _changes(changes: list[wire.ShownChange]) -> Table:
    table = Table("changed", "tenant", "scope", "strictness", "because")
    for each in changes:
        scope = each.scope[:SCOPE_SHOWN] or "new ones"
        strictness = "off" if each.off else f"{each.strictness:+.2f}"
        table.add_row(*map(Text, (_at(each.at), each.tenant, scope, strictness, each.reason)))
    return table


def _rate(rate: wire.ShownRate) -> tuple[str, str, str]:
    if rate.estimate is None or rate.lower is None or rate.upper is None or rate.since is None:
        return UNKNOWN, "", ""
    return _percent(rate.estimate), f"{_percent(rate.lower)} to {_percent(rate.upper)}", _at(rate.since)


def _needed(needed: int | None) -> str:
    if needed is None:
        return "too many are wrong to keep it"
    return f"{needed:,} more hits judged right would keep it" if needed else "kept"


def _error(share: float | None, upper: float | None) -> str:
    return "not checked yet" if share is None or upper is None else f"{_percent(share)}, at most {_percent(upper)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _at(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
