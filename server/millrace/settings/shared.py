"""Faults of `[shared]` that have the right type and still cannot work."""

import importlib.util
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from millrace.settings.faults import Fault, at
from millrace.settings.sections import IN_MEMORY

_STORES = {  # the schemes of a URL, the module that speaks to it, the extra that installs it, an example
    "redis": (("redis", "rediss", "unix"), "redis", "redis", "redis://127.0.0.1:6379/0"),
    "postgres": (("postgresql", "postgres"), "psycopg", "postgres", "postgresql://millrace@127.0.0.1/millrace"),
}
_REDIS_OPTIONS = {"db", "username", "password", "client_name"}  # and all that begin with `ssl_`
_IN_PASSWORDS = "in a password, write / as %2F, @ as %40, # as %23, and % as %25"


def invalid_shared(tree: dict[str, Any]) -> Iterator[Fault]:
    """Yield faults of what replicas share. No URL is repeated, since it may hold a password."""
    for key, (schemes, module, extra, example) in _STORES.items():
        url = at(tree, "shared", key)
        if not isinstance(url, str):
            continue
        if url.partition(":")[0] not in schemes:
            yield Fault(f"shared.{key}", f'it is no URL; write {key} = "{example}"')
        elif importlib.util.find_spec(module) is None:
            yield Fault(f"shared.{key}", f"{module} is not installed; run: pip install 'millrace[{extra}]'")
        elif fault := (_fault_of_redis if key == "redis" else _fault_of_postgres)(url):
            yield Fault(f"shared.{key}", f'{fault}; write {key} = "{example}"; {_IN_PASSWORDS}')
    address = at(tree, "shared", "address")
    if isinstance(address, str) and not _is_url(address, ("http", "https")):
        advice = 'write where the other replicas reach this one: address = "http://10.0.0.5:8000"'
        yield Fault("shared.address", f"it is no URL; {advice}")
    if at(tree, "server", "data_dir") == IN_MEMORY and isinstance(at(tree, "shared", "postgres"), str):
        yield Fault(
            "shared.postgres", "rows wait on the disk while PostgreSQL is away; name a folder as server.data_dir"
        )


def _fault_of_redis(url: str) -> str:
    """Return what is wrong with the URL; empty if nothing."""
    if not _is_url(url, _STORES["redis"][0]):
        return "it is no URL"
    parts = urlsplit(url)
    if parts.scheme != "unix" and not (parts.path.strip("/") or "0").isdigit():
        return "what follows the host is not the number of a database"
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not named.get("db", "0").isdigit():
        return "db is not the number of a database"
    unknown = [name for name in named if name not in _REDIS_OPTIONS and not name.startswith("ssl_")]
    return f"{unknown[0]} is no option of it" if unknown else ""


def _fault_of_postgres(url: str) -> str:
    """Return what is wrong with the URL; empty if nothing. It may name several hosts."""
    import psycopg  # noqa: PLC0415 - only where it is used
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # its words would repeat some of it
        return "PostgreSQL cannot read it"
    ports = str(parts.get("port") or "").split(",")
    return "" if all(port.isdigit() or not port for port in ports) else "its port is not a number"


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname or parts.path) and parts.port != 0
    except ValueError:
        return False
