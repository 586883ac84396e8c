"""`millrace router`: what the router has learned, what that would save, and how to stop it or go back."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.table import Table
from rich.text import Text

from millrace import assembly
from millrace.cli import configuration
from millrace.cli.cache import json_option
from millrace.cli.db import check_fitness
from millrace.cli.keys import data_dir_option
from millrace.cli.printed import print_report
from millrace.funnel.routing.report import RouterReports
from millrace.settings import RouterSettings, SharedSettings
from millrace.wire import router as wire

T = TypeVar("T")
NOTHING_FOUND = 1  # exit code
UNKNOWN = "not known yet"
_FROM = {
    "shadow": "pairs of both models' answers, judged",
    "check": "verdicts of the checks",
    "feedback": "what people said of answers",
}


@click.group()
def router() -> None:
    """Show what the router has learned, stop it from learning, and go back to an earlier state.

    The commands work beside a running server, which heeds them within seconds, and without one. docs/routing.md says
    what is learned, and from what.
    """


@router.command()
@click.option("--tenant", help="Only of this tenant.")
@json_option
@configuration.config_option
@data_dir_option
def show(*, tenant: str | None, as_json: bool, config: Path, data_dir: str | None) -> None:
    """Show what was learned of each tenant, from how many labels, and what it would save at which quality."""
    report = _run(config, data_dir, lambda reports: reports.report(tenant))
    print_report(report, _parts, as_json=as_json)


@router.command()
@click.option("--tenant", help="Only of this tenant; else of all.")
@configuration.config_option
@data_dir_option
def freeze(*, tenant: str | None, config: Path, data_dir: str | None) -> None:
    """Have the router learn nothing until it is thawed. What it has learned is used as it is; promises are kept."""
    changed = _run(config, data_dir, lambda reports: reports.freeze(tenant, frozen=True))
    click.echo(f"{_whom(tenant)}: {'nothing is learned from now on' if changed else 'nothing was learned already'}.")


@router.command()
@click.option("--tenant", help="Only of this tenant; a freeze of all is lifted without it.")
@configuration.config_option
@data_dir_option
def thaw(*, tenant: str | None, config: Path, data_dir: str | None) -> None:
    """Have the router learn again. What was judged meanwhile is not learned afterwards."""
    changed = _run(config, data_dir, lambda reports: reports.freeze(tenant, frozen=False))
    again = "the router learns again" if changed else "was not frozen; `millrace router show` says who is"
    click.echo(f"{_whom(tenant)}: {again}.")


@router.command()
@click.argument("number", type=click.IntRange(min=1))
@click.option("--tenant", default="anonymous", show_default=True, help="Whose state.")
@configuration.config_option
@data_dir_option
def restore(*, number: int, tenant: str, config: Path, data_dir: str | None) -> None:
    """Go back to the snapshot NUMBER of a tenant, as `show` lists them. The present state stays as a snapshot."""
    restored = _run(config, data_dir, lambda reports: reports.restore(tenant, number))
    if restored is None:
        advice = f"`millrace router show --tenant {tenant}` lists those that can be read"
        click.echo(f"{number}: no snapshot of {tenant!r} that can be restored; {advice}", err=True)
        sys.exit(NOTHING_FOUND)
    click.echo(f"{tenant}: restored from {number}, as {restored}.")


def _run(config: Path, data_dir: str | None, work: Callable[[RouterReports], Awaitable[T]]) -> T:
    if data_dir is None:
        loaded = configuration.load(config)
        folder, settings, shared = loaded.server.data_dir, loaded.router, loaded.shared
        check_fitness(shared)
    else:
        folder, settings, shared = data_dir, RouterSettings(), SharedSettings()

    async def run() -> T:
        async with assembly.router_reports(folder, settings, shared) as reports:
            return await work(reports)

    return configuration.run_on(
        folder, run, endpoint="/v1/router", nothing="no router", unable="cannot use the router's state"
    )


def _whom(tenant: str | None) -> str:
    return "all tenants" if tenant is None else tenant


def _parts(report: wire.RouterReport) -> Iterator[Any]:
    """Yield tables and lines."""
    if not report.learns_now:
        yield "Nothing is learned now: router.learns is false."
    if not report.tenants:
        yield "Nothing was learned yet: no request was routed by `auto`."
    for tenant in report.tenants:
        yield _summary(tenant)
        yield _sources(tenant)
        for place in tenant.models:
            yield f"{tenant.tenant}, model {place.model!r}: {place.kept} ({place.pairs:,} judged pairs)"
            if place.outlook:
                yield _outlook(place)
        if tenant.snapshots:
            yield _snapshots(tenant)


def _summary(tenant: wire.ShownTenant) -> str:
    if tenant.by_length:
        state = f"stays with the length of the question first: {tenant.labels:,} labels of {tenant.needed:,}"
    else:
        state = f"has learned from {tenant.labels:,} labels"
    saved = UNKNOWN if tenant.saved is None else f"{tenant.saved:.0%} of the large model's price"
    frozen = " FROZEN: nothing is learned." if tenant.frozen else ""
    return f"{tenant.tenant}: the router {state}. Small first saves: {saved}.{frozen}"


def _sources(tenant: wire.ShownTenant) -> Table:
    table = Table("labels", "from", "counted as", "since", "last")
    for each in tenant.sources:
        counted = f"{each.counted:,.0f}"
        table.add_row(*map(Text, (f"{each.labels:,}", _FROM[each.source], counted, _at(each.since), _at(each.last))))
    return table


def _outlook(place: wire.ShownPlace) -> Table:
    table = Table("large first", "as good as the large model", "95 % bounds", "saves")
    for each in place.outlook:
        saved = UNKNOWN if each.saved is None else f"{each.saved:.0%}"
        bounds = f"{each.lower:.1%} to {each.upper:.1%}"
        table.add_row(*map(Text, (f"{each.large_share:.0%}", f"{each.quality:.1%}", bounds, saved)))
    return table


def _snapshots(tenant: wire.ShownTenant) -> Table:
    table = Table("snapshot", "kept", "labels", "")
    for number, each in enumerate(tenant.snapshots):
        notes = ["in use"] * (number == 0) + [each.note] * bool(each.note) + ["cannot be read"] * (not each.readable)
        table.add_row(*map(Text, (str(each.number), _at(each.saved_at), f"{each.labels:,}", ", ".join(notes))))
    return table


def _at(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
