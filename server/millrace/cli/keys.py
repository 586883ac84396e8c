"""`millrace keys`: add, list, rotate, revoke. A running server applies changes within two seconds."""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import ClassVar, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from millrace.access.keys import make, new_secret
from millrace.access.origins import LOOPBACK
from millrace.assembly import key_store
from millrace.cli import configuration
from millrace.cli.db import check_fitness
from millrace.cli.printed import wide
from millrace.ports import KeyStore
from millrace.principal import Key, Limits, Role
from millrace.settings import IN_MEMORY, Fault, ServerSettings, SharedSettings
from millrace.types import EVIDENCE_TENANT

T = TypeVar("T")
NO_SUCH_KEY = 1  # exit code
ALONE = SharedSettings()
DAY_S = 86_400
MOST_GRACE_S = 365 * DAY_S

data_dir_option = click.option(
    "--data-dir", type=click.Path(file_okay=False), help="The server's data folder; --config is not read then."
)


class Duration(click.ParamType[float]):
    """A time such as 24h."""

    name = "time"
    units: ClassVar = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return its seconds."""
        if isinstance(value, float):
            return value
        number, unit = (value[:-1], value[-1:]) if value[-1:] in self.units else (value, "s")
        if not (number.isascii() and number.isdigit()) or (unit == "s" and value not in ("0", f"{number}s")):
            self.fail(f"{value!r} is no time such as 24h: write a number and one of s, m, h, d; or 0", param, ctx)
        seconds = float(number) * self.units[unit]
        if seconds > MOST_GRACE_S:
            self.fail(f"{value!r} is longer than {MOST_GRACE_S // DAY_S} days", param, ctx)
        return seconds


class Dollars(click.ParamType[Decimal]):
    """An amount such as 2.50."""

    name = "dollars"

    def convert(self, value: str | Decimal, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return the exact amount."""
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal(-1)
        if not amount.is_finite() or amount < 0:
            self.fail(f"{value!r} is not an amount of dollars such as 2.50", param, ctx)
        return amount


@click.group()
def keys() -> None:
    """Add, list, rotate and revoke keys. The first key turns authentication on."""


@keys.command()
@click.option("--tenant", required=True, help="Who the key is for. Tenants are isolated and share no cache.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.USE.value,
    show_default=True,
    help="admin: also totals.",
)
@click.option("--name", default="", help="A name for the list of keys.")
@click.option("--requests-per-minute", type=click.IntRange(1))
@click.option("--tokens-per-minute", type=click.IntRange(1), help="Input and output tokens.")
@click.option("--in-flight", type=click.IntRange(1), help="Requests at once.")
@click.option("--dollars-per-day", type=Dollars(), help="A day of UTC.")
@click.option("--dollars-per-month", type=Dollars(), help="A month of UTC.")
@click.option("--connections", type=click.IntRange(1), help="WebSockets at once.")
@click.option("--max-output-tokens", type=click.IntRange(1), help="Of an answer, whatever its request asks for.")
@click.option("--no-evidence", is_flag=True, help="Never sample or judge the key's requests.")
@configuration.config_option
@data_dir_option
def add(
    tenant: str,
    role: str,
    name: str,
    no_evidence: bool,  # noqa: FBT001 - as click gives it
    config: Path,
    data_dir: str | None,
    **limits: int | Decimal | None,
) -> None:
    """Make a key and print it once. Only its hash is stored.

    Standard output holds only the key, so it can be piped. Limits that are not given come from [limits].
    """
    tenant = tenant.strip()
    if not tenant or not tenant.isprintable():
        raise click.BadParameter("write a name", param_hint="--tenant")
    if tenant == EVIDENCE_TENANT:
        raise click.BadParameter(
            f"{tenant!r} is what evidence is booked under; write another name", param_hint="--tenant"
        )
    key, text = make(
        tenant=tenant,
        role=Role(role),
        name=name,
        evidence=not no_evidence,
        limits=Limits(**limits),  # type: ignore[arg-type]  # the options above have its names
        created_at=time.time(),
    )
    _in_store(config, data_dir, lambda store: store.add(key))
    click.echo(text)
    note = f"the key of {tenant!r} ({role}); it is not shown again. To revoke it: millrace keys revoke"
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"{note} {key.principal.key_id}"))


@keys.command("list")
@configuration.config_option
@data_dir_option
def list_(config: Path, data_dir: str | None) -> None:
    """List all keys. Their secrets are not stored, so they are not shown."""
    table = Table("id", "tenant", "role", "name", "created", "revoked", "old secret", "limits", "evidence")
    table.columns[0].no_wrap = True  # it is what the other commands want
    for key in _in_store(config, data_dir, lambda store: store.load()):
        owner = key.principal
        revoked = "" if key.revoked_at is None else _day(key.revoked_at)
        cells = (
            owner.key_id,
            owner.tenant,
            owner.role,
            key.name,
            _day(key.created_at),
            revoked,
            _earlier_text(key),
            _limits_text(owner.limits),
            "" if owner.evidence else "none",
        )
        table.add_row(*map(Text, cells))
    wide().print(table)


@keys.command()
@click.argument("named", metavar="ID|NAME")
@click.option("--grace", type=Duration(), default="24h", show_default=True, help="For the old one: 30m, 24h, 7d, or 0.")
@configuration.config_option
@data_dir_option
def rotate(named: str, grace: float, config: Path, data_dir: str | None) -> None:
    """Give a key a new secret and print the key once. The old one works until the grace is over.

    It stays the same key: its limits, its budget and its rows in the ledger go on. A key has one old secret: if it was
    rotated before, the secret before that is refused from now on.
    """

    async def rotated(store: KeyStore) -> tuple[Key, str, float]:
        key = _named(await store.load(), named)
        digest, text = new_secret(key.principal.key_id)
        until = time.time() + grace
        if not await store.rotate(key.principal.key_id, digest, until):
            raise click.ClickException(f"{named}: it was revoked just now")
        return key, text, until

    key, text, until = _in_store(config, data_dir, rotated)
    click.echo(text)
    owner = key.principal
    ends = f"works until {_day(until)} UTC" if grace else "is refused from now on"
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(f"the new key of {owner.tenant!r} ({owner.role}); it is not shown again. The old one {ends}"))
    if key.earlier is not None and key.earlier.until > time.time():
        console.print(Text("The one before that, which still worked, is refused from now on", style="yellow"))


@keys.command()
@click.argument("key_id", metavar="ID")
@configuration.config_option
@data_dir_option
def revoke(key_id: str, config: Path, data_dir: str | None) -> None:
    """Revoke a key. It stays in the list, and authentication stays on even without a valid key."""
    key_id = key_id.removeprefix("mr_").partition("_")[0]  # the full text of a key is accepted too
    if not _in_store(config, data_dir, lambda store: store.revoke(key_id, time.time())):
        click.echo(f"{key_id}: there is no such key that is still good; see millrace keys list", err=True)
        sys.exit(NO_SUCH_KEY)
    click.echo(f"{key_id} is revoked", err=True)


def check_access(server: ServerSettings, shared: SharedSettings = ALONE) -> str:
    """Exit if the server would listen beyond loopback without a key. Return advice for the user, or "".

    The store is always opened, so that its faults are reported with the path of its setting. While it is not known
    whether there is a key, because PostgreSQL is away, the server may start: it lets nobody in.
    """
    try:
        stored = _run(server.data_dir, shared, lambda store: store.load())
    except TimeoutError:
        return ""
    if not stored and server.host not in LOOPBACK:
        host = server.host
        advice = f"make a key first: {configuration.program()} keys add --tenant NAME; or listen on 127.0.0.1"
        configuration.exit_with_faults(
            [Fault("server.host", f"{host!r} is open to others, and there is no key; {advice}")], "not safe"
        )
    if stored or server.host not in LOOPBACK:
        return ""
    folder = "name a folder in [server] data_dir, " if server.data_dir == IN_MEMORY else ""
    steps = f"{folder}{configuration.program()} keys add --tenant NAME, then set MILLRACE__SERVER__HOST=0.0.0.0"
    return f"for this machine only; for others: {steps}"


def _in_store(config: Path, data_dir: str | None, work: Callable[[KeyStore], Awaitable[T]]) -> T:
    folder, shared = data_dir, ALONE
    if folder is None:
        loaded = configuration.load(config)
        folder, shared = loaded.server.data_dir, loaded.shared
    check_fitness(shared)
    if shared.postgres is None and folder == IN_MEMORY:
        fault = Fault("server.data_dir", f"{IN_MEMORY!r} keeps nothing, so it cannot hold keys; name a folder")
        configuration.exit_with_faults([fault], "cannot store")
    try:
        return _run(folder, shared, work)
    except TimeoutError as error:
        click.echo(f"not done: {error}", err=True)
        sys.exit(configuration.NOT_DONE)


def _run(data_dir: str, shared: SharedSettings, work: Callable[[KeyStore], Awaitable[T]]) -> T:
    """Work with the keys. Raises `TimeoutError` if PostgreSQL is away."""

    async def run() -> T:
        async with key_store(data_dir, shared) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except (OSError, ValueError, sqlite3.Error) as error:
        if shared.postgres is not None and isinstance(error, TimeoutError):
            raise
        configuration.exit_with_faults([configuration.unusable(data_dir, error)], "cannot store")


def _named(stored: list[Key], named: str) -> Key:
    """Return the key with an id, or the valid one with a name. Exits if there is none, or more than one."""
    key_id = named.removeprefix("mr_").partition("_")[0]  # the full text of a key is accepted too
    valid = [key for key in stored if key.revoked_at is None]
    found = [key for key in valid if key.principal.key_id == key_id] or [key for key in valid if key.name == named]
    if named and len(found) == 1:
        return found[0]
    if named and found:
        ids = ", ".join(key.principal.key_id for key in found)
        click.echo(f"{named}: {len(found)} keys have this name; write the id of one: {ids}", err=True)
    else:
        click.echo(f"{named}: there is no such key that is still good; see millrace keys list", err=True)
    sys.exit(NO_SUCH_KEY)


def _earlier_text(key: Key) -> str:
    if key.earlier is None:
        return ""
    return f"{'good until' if key.earlier.until > time.time() else 'ended'} {_day(key.earlier.until)}"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _limits_text(limits: Limits) -> str:
    by_name = {
        "requests/min": limits.requests_per_minute,
        "tokens/min": limits.tokens_per_minute,
        "in flight": limits.in_flight,
        "$/day": limits.dollars_per_day,
        "$/month": limits.dollars_per_month,
        "connections": limits.connections,
        "output tokens": limits.max_output_tokens,
    }
    return ", ".join(f"{limit} {name}" for name, limit in by_name.items() if limit is not None)
