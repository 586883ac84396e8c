"""`millrace cache`: what the caches hold, what they decide of two questions, and how to get rid of an answer.

The commands work beside a running server and without one. What they delete no server serves any more once they return.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec
from rich.table import Table
from rich.text import Text

from millrace import assembly
from millrace.cli import configuration
from millrace.cli.keys import data_dir_option
from millrace.cli.printed import wide
from millrace.cli.rules import rules
from millrace.cli.tune import tune
from millrace.ports import CacheControl
from millrace.settings import CacheSettings
from millrace.types import Decision, Deleted, KeptAnswer, NearEntry, Objection, TenantCache

T = TypeVar("T")
NOTHING_FOUND = 1  # exit code
LONGEST = 100  # characters of a question in a table
SCOPE_SHOWN, SCOPE_BYTES = 12, 32  # characters of a scope in a table; bytes of a whole one

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
tenant_option = click.option("--tenant", help="Only what is this tenant's.")


@click.group()
def cache() -> None:
    """Look into the caches, ask what they decide, and delete from them."""


cache.add_command(tune)
cache.add_command(rules)


class Scope(click.ParamType[bytes]):
    """The digest of a scope, or its beginning."""

    name = "scope"

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return its bytes."""
        try:
            return value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            self.fail(f"{value!r} is no scope; copy it from: millrace cache show ID", param, ctx)


@cache.command()
@tenant_option
@json_option
@configuration.config_option
@data_dir_option
def stats(*, tenant: str | None, as_json: bool, config: Path, data_dir: str | None) -> None:
    """Show what the caches hold of each tenant, and how many requests they have answered while entries live."""
    held = _run(config, data_dir, lambda control: control.stats(tenant))
    if as_json:
        _print_json(held)
        return
    columns = ("tenant", "scopes", "semantic", "MB", "exact", "MB", "oldest", "requests", "semantic hits", "exact hits")
    table = Table(*columns, "joined")
    for each in [*held, _total(held)] if len(held) > 1 else held:
        sizes = (f"{each.semantic_bytes / 1e6:.1f}", f"{each.exact_bytes / 1e6:.1f}")
        served = each.served
        cells = (
            *(each.tenant, each.scopes, each.semantic_entries, sizes[0], each.exact_entries, sizes[1]),
            "" if each.oldest_at is None else _ago(each.oldest_at),
            *(served.requests, served.semantic, served.exact, served.joined),
        )
        table.add_row(*(Text(str(cell)) for cell in cells))
    _print(table)


@cache.command()
@click.argument("text")
@tenant_option
@click.option("--scope", type=Scope(), default="", help="Only in scopes that begin so.")
@click.option("--most", type=click.IntRange(1, 32), default=10, show_default=True, help="So many entries.")
@json_option
@configuration.config_option
@data_dir_option
def search(
    *,
    text: str,
    tenant: str | None,
    scope: bytes,
    most: int,
    as_json: bool,
    config: Path,
    data_dir: str | None,
) -> None:
    """Search for the stored questions nearest to TEXT, and show what the decision says of each."""
    found = _run(config, data_dir, lambda control: control.search(text, tenant=tenant, scope=scope, most=most))
    if as_json:
        _print_json(found)
        return
    table = Table("served", "cosine", "probability", "question", "because", "age", "tenant", "scope", "id")
    for each in found:
        table.add_row(*map(Text, _cells(each)))
    _print(table if found else "No question is stored that could be near.")


@cache.command()
@click.argument("entry_id", metavar="ID")
@tenant_option
@json_option
@configuration.config_option
@data_dir_option
def show(*, entry_id: str, tenant: str | None, as_json: bool, config: Path, data_dir: str | None) -> None:
    """Show the entry that a hit names in `entry_id`: its question, its answer, and whom it has answered."""
    kept = _run(config, data_dir, lambda control: control.entry(entry_id, tenant=tenant))
    if kept is None:
        _exit_without(entry_id)
    if as_json:
        _print_json(kept)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in _fields(kept):
        table.add_row(Text(name, style="bold"), Text(value))
    _print(table)


@cache.command()
@click.argument("entry_ids", metavar="ID...", nargs=-1, required=True)
@tenant_option
@json_option
@configuration.config_option
@data_dir_option
def delete(
    *,
    entry_ids: tuple[str, ...],
    tenant: str | None,
    as_json: bool,
    config: Path,
    data_dir: str | None,
) -> None:
    """Delete entries from both caches. Once this returns, no server serves them any more."""
    deleted = _run(config, data_dir, lambda control: control.delete(entry_ids, tenant=tenant))
    if as_json:
        _print_json(deleted)
    if not (deleted.exact or deleted.semantic):
        _exit_without(" ".join(entry_ids))
    if not as_json:
        _print(f"Deleted: {_counted(deleted)}.")


@cache.command()
@click.option("--tenant", help="What is this tenant's.")
@click.option("--scope", type=Scope(), help="What is in this scope, as `show` prints it whole.")
@click.option("--all", "everything", is_flag=True, help="Whatever is stored, of all tenants.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@configuration.config_option
@data_dir_option
def flush(
    *,
    tenant: str | None,
    scope: bytes | None,
    everything: bool,
    yes: bool,
    as_json: bool,
    config: Path,
    data_dir: str | None,
) -> None:
    """Delete all that is stored until now: of a tenant, in a scope, or everything. It asks first."""
    if everything == (tenant is not None or scope is not None):
        raise click.UsageError("say what to delete: --tenant NAME, --scope SCOPE (or both), or --all")
    if scope is not None and len(scope) != SCOPE_BYTES:
        raise click.BadParameter(f"write all {2 * SCOPE_BYTES} characters, as `show` prints them", param_hint="--scope")
    if not yes:
        count = _run(config, data_dir, lambda control: control.count(tenant=tenant, scope=scope))
        click.confirm(f"Delete {_counted(count)}?", abort=True, err=True)
    deleted = _run(config, data_dir, lambda control: control.flush(tenant=tenant, scope=scope))
    if as_json:
        _print_json(deleted)
    else:
        _print(f"Deleted: {_counted(deleted)}.")


@cache.command()
@click.argument("a")
@click.argument("b")
@json_option
@configuration.config_option
def why(*, a: str, b: str, as_json: bool, config: Path) -> None:
    """Say whether the answer to question A would be served to question B, and each objection by its name.

    No server and no stored answer is needed.
    """
    decision = configuration.run(_decided(configuration.cache_settings(config), a, b))
    if as_json:
        _print_json(decision)
        return
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("served", style="bold"), Text("yes" if decision.served else "no"))
    for reason in decision.refused:
        table.add_row(Text("not reusable", style="bold"), Text(reason))
    for each in decision.objections:
        table.add_row(Text("hard" if each.is_hard else "soft", style="bold"), Text(_objection(each)))
    cosine = "not compared" if decision.cosine is None else f"{decision.cosine:.3f}"
    table.add_row(Text("cosine", style="bold"), Text(cosine))
    probability = "ruled out" if decision.probability is None else f"{decision.probability:.3f}"
    table.add_row(Text("probability", style="bold"), Text(f"{probability}; served from {decision.threshold:.3f}"))
    _print(table)


async def _decided(settings: CacheSettings, a: str, b: str) -> Decision:
    async with assembly.judge(settings) as judge:
        return await judge.decide(a, b)


def _run(config: Path, data_dir: str | None, work: Callable[[CacheControl], Awaitable[T]]) -> T:
    if data_dir is None:
        loaded = configuration.load(config)
        folder, settings = loaded.server.data_dir, loaded.cache
    else:
        folder, settings = data_dir, CacheSettings()

    async def run() -> T:
        async with assembly.cache_control(folder, settings) as control:
            return await work(control)

    return configuration.run_on(
        folder, run, endpoint="/v1/cache/stats", nothing="no cache", unable="cannot use the caches"
    )


def _exit_without(what: str) -> NoReturn:
    click.echo(f"{what}: not stored; a hit names its entry in entry_id, and `millrace cache search` finds it", err=True)
    sys.exit(NOTHING_FOUND)


def _cells(each: NearEntry) -> tuple[str, ...]:
    made = each.decision
    because = next(iter((*made.refused, *map(_objection, made.objections))), "")
    return (
        "yes" if made.served else "no",
        "" if made.cosine is None else f"{made.cosine:.3f}",
        "" if made.probability is None else f"{made.probability:.3f}",
        each.question if len(each.question) <= LONGEST else f"{each.question[:LONGEST]}…",
        because,
        _ago(each.stored_at),
        each.tenant,
        each.scope.hex()[:SCOPE_SHOWN],
        each.id,
    )


def _objection(each: Objection) -> str:
    return f"{each.rule}: {each.reason}" if each.reason else each.rule


def _fields(kept: KeptAnswer) -> list[tuple[str, str]]:
    return [
        ("id", ", ".join(kept.ids)),
        ("cache", ", ".join(each.value for each in kept.caches)),
        ("tenant", kept.tenant),
        *([("scope", kept.scope.hex()), ("question", kept.question)] if kept.scope else []),
        ("stored", f"{datetime.fromtimestamp(kept.stored_at, UTC):%Y-%m-%d %H:%M:%S} UTC, {_ago(kept.stored_at)} ago"),
        ("hits", str(kept.hits)),
        ("size", f"{kept.size} bytes"),
        ("model", kept.answer.model_id),
        ("answer", kept.answer.text),
    ]


def _total(held: list[TenantCache]) -> TenantCache:
    def add(name: str, of: list[Any]) -> int:
        return sum(getattr(each, name) for each in of)

    sums = ("exact_entries", "exact_bytes", "semantic_entries", "semantic_bytes", "scopes")
    served = [each.served for each in held]
    return TenantCache(
        tenant="all",
        **{name: add(name, held) for name in sums},
        oldest_at=min((each.oldest_at for each in held if each.oldest_at is not None), default=None),
        served=type(served[0])(**{name: add(name, served) for name in ("requests", "exact", "semantic", "joined")}),
    )


def _counted(count: Deleted) -> str:
    return f"{count.semantic} of the semantic cache, {count.exact} of the exact cache"


def _ago(at: float) -> str:
    seconds = max(0.0, time.time() - at)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _print(what: Any) -> None:
    wide().print(Text(what) if isinstance(what, str) else what)


def _print_json(value: Any) -> None:
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    click.echo(json.dumps(plain, indent=2, ensure_ascii=False, default=bytes.hex))
