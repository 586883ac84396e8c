"""`millrace replay`: what other settings would have done with the requests of the last days."""

import difflib
import os
import time
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from millrace import settings
from millrace.assembly import accounts
from millrace.cli import configuration
from millrace.cli.cache import json_option, tenant_option
from millrace.cli.db import check_fitness
from millrace.cli.evidence import Ago
from millrace.cli.levers import reading
from millrace.cli.printed import print_report
from millrace.settings import Override, Settings, SettingsError, SharedSettings
from millrace.wire import evidence, replay as wire

SETTINGS = {
    "cache.exact": "true or false",
    "cache.semantic": "true or false",
    "cache.ttl_s": "seconds",
    "cache.semantic_threshold": "a probability, or none for the one that is shipped",
    "cache.max_wrong_hit_rate": "a share; steers by the hits that were judged",
    "router.large_share": "a share of requests for the large model, or none",
    "router.keep_quality": "a share of the large model's quality, or none; by the pairs that were judged",
    "router.spend_per_day": "dollars, or none",
    "checks.off": "names of checks, with commas, or none",
}
ALSO = {  # other names of these
    "cache.semantic.max_wrong_hit_rate": "cache.max_wrong_hit_rate",
    "cache.semantic.threshold": "cache.semantic_threshold",
}
NONE = "none"
UNKNOWN = "not known yet"
PROMISES = ("large_share", "keep_quality", "spend_per_day")  # of the router, which keeps one
_LISTED = "\n".join(f"  {path:<26} {what}" for path, what in SETTINGS.items())


@click.command(epilog=f"\b\nSettings that can be tried:\n{_LISTED}")
@click.option(
    "--since", "ago_s", type=Ago(), default=evidence.SINCE, show_default=True, help="How far back: 90m, 24h, 7d, 4w."
)
@tenant_option
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="A setting to try; may be given again.")
@json_option
@configuration.config_option
@click.option(
    "--data-dir", type=click.Path(file_okay=False), help="The server's data folder, if not that of the configuration."
)
def replay(
    *,
    ago_s: float,
    tenant: str | None,
    changes: tuple[str, ...],
    as_json: bool,
    config: Path,
    data_dir: str | None,
) -> None:
    """Decide past requests again under other settings, and show what that would have changed.

    Each stage decides from what the ledger keeps of a request: which stored questions were near and how sure the
    decision was, the router's score, the verdicts of the checks. No model is asked. What a model would have been paid
    is estimated from comparable requests, with bounds of 95 %. Without --set it shows what happened, exactly.

    Example: millrace replay --since 7d --set cache.max_wrong_hit_rate=0.005 --set router.large_share=0.3
    """
    now = configuration.load(config)
    wanted = _wanted(changes)
    tried = _tried(config, wanted)
    shown = [wire.ShownSetting(path=path, now=_value(now, path), tried=_value(tried, path)) for path in dict(wanted)]
    report = _report(now, tried, shown, data_dir, ago_s, tenant)
    print_report(report, _parts, as_json=as_json)


def _wanted(changes: Sequence[str]) -> list[tuple[str, str]]:
    """Return the settings to try, by their own names. Raises `click.BadParameter` for one that cannot be."""
    wanted = []
    for change in changes:
        name, equals, value = change.partition("=")
        path = ALSO.get(name.strip(), name.strip())
        if not equals or not value.strip():
            raise click.BadParameter(f"{change!r}: write KEY=VALUE, such as router.large_share=0.3", param_hint="--set")
        if path not in SETTINGS:
            near = difflib.get_close_matches(path, [*SETTINGS, *ALSO], n=1)
            hint = f"did you mean {near[0]}?" if near else f"those that can: {', '.join(SETTINGS)}"
            raise click.BadParameter(f"{name}: cannot be replayed; {hint}", param_hint="--set")
        wanted.append((path, value.strip()))
    return wanted


def _tried(config: Path, wanted: Sequence[tuple[str, str]]) -> Settings:
    """Return the configuration with the settings that are tried. Exits if they have faults."""
    tree, environ = tomllib.loads(config.read_text("utf-8")), dict(os.environ)
    names = {path.rpartition(".")[2] for path, _ in wanted}
    left_out = {path for path, value in wanted if value.lower() == NONE}
    if not names.isdisjoint(PROMISES):  # the router keeps one: that which is tried takes the place of the other
        left_out |= {f"router.{promise}" for promise in PROMISES if promise not in names}
    for path in left_out:
        section, key = path.split(".")
        tree.get(section, {}).pop(key, None)
        environ = {name: text for name, text in environ.items() if name.lower() != f"millrace__{section}__{key}"}
    flags = {path: Override(value, "--set") for path, value in wanted if path not in left_out}
    try:
        return settings.build(tree, environ, flags)
    except SettingsError as error:
        configuration.exit_with_faults(error.faults, "--set")


def _report(
    now: Settings,
    tried: Settings,
    shown: list[wire.ShownSetting],
    data_dir: str | None,
    ago_s: float,
    tenant: str | None,
) -> wire.ReplayReport:
    folder, shared = (now.server.data_dir, now.shared) if data_dir is None else (data_dir, SharedSettings())
    check_fitness(shared)

    async def run() -> wire.ReplayReport:
        with reading("reading the ledger twice") as progress:
            bar = progress.add_task("", total=None)
            async with accounts.replays(folder, now, shared) as replays:
                return await replays.report(
                    time.time() - ago_s,
                    accounts.rules_of(now),
                    accounts.rules_of(tried),
                    shown,
                    tenant,
                    lambda read, of_all: progress.update(bar, completed=read, total=of_all),
                )

    return configuration.run_on(folder, run, endpoint=None, nothing="no ledger", unable="cannot replay")


def _value(of: Settings, path: str) -> str:
    section, key = path.split(".")
    value = getattr(getattr(of, section), key)
    if isinstance(value, tuple):
        return ", ".join(value) or NONE
    return NONE if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _parts(report: wire.ReplayReport) -> Iterator[Any]:
    """Yield tables and lines."""
    since = f"{datetime.fromtimestamp(report.since, UTC):%Y-%m-%d %H:%M} UTC"
    whose = "" if report.tenant is None else f" of {report.tenant}"
    if not report.requests:
        yield f"No request{whose} has ended since {since}."
        return
    for each in report.settings:
        yield f"{each.path}: {each.tried} in place of {each.now}"
    yield f"{report.requests:,} requests{whose} since {since}; {report.otherwise:,} would go another way."
    yield _table(report)
    yield from report.notes


def _table(report: wire.ReplayReport) -> Table:
    was, tried = report.happened, report.replayed
    table = Table("", "happened", "replayed", "difference")
    for column in table.columns[1:]:
        column.justify = "right"
    cost = f"{tried.cost_usd:,.6f}"
    if tried.estimated_usd:
        cost += f" ({tried.low_usd:,.6f} to {tried.high_usd:,.6f})"
    change = f"{100 * (tried.cost_usd / was.cost_usd - 1):+.1f} %" if was.cost_usd else ""
    table.add_row("dollars", f"{was.cost_usd:,.6f}", cost, change)
    if tried.estimated_usd:
        table.add_row("  of which estimated", "", f"{tried.estimated_usd:,.6f}", "")
    counts = (
        ("exact hits", was.exact, tried.exact),
        ("semantic hits", was.semantic, tried.semantic),
        ("shared generations", was.joined, tried.joined),
        ("small model first", was.small_first, tried.small_first),
        ("large model first", was.large_first, tried.large_first),
        ("escalations", was.escalated, tried.escalated),
    )
    for name, before, after in counts:
        table.add_row(name, f"{before:,.0f}", f"{after:,.0f}", f"{after - before:+,.0f}")
    table.add_row("wrong hits, expected", f"{was.wrong_hits:,.1f}", f"{tried.wrong_hits:,.1f}", _less(was, tried))
    for name, share, after in (
        ("hit rate", was.hit_rate, tried.hit_rate),
        ("large share of those routed", was.large_share, tried.large_share),
    ):
        table.add_row(name, f"{share:.1%}", f"{after:.1%}", f"{100 * (after - share):+.1f} points")
    if was.quality is not None and tried.quality is not None:
        points = f"{100 * (tried.quality - was.quality):+.2f} points"
        table.add_row("as good as the large model", f"{was.quality:.2%}", f"{tried.quality:.2%}", points)
    else:
        table.add_row("as good as the large model", UNKNOWN, UNKNOWN, "")
    return table


def _less(was: wire.ShownFigures, tried: wire.ShownFigures) -> str:
    return f"{tried.wrong_hits - was.wrong_hits:+,.1f}"
