"""Faults of `[shared]` that have the right type and still cannot work."""

import importlib.util
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from millrace.settings.faults import Fault, at
from millrace.settings.sections import IN_MEMORY

_STORES = {  # the schemes of a URL, the module that speaks to it, the extra that installs it, an example
    "redis": (("redis", "rediss", "unix"), "redis", "redis", "redis://127.0.0.1:6379/0"),
    "postgres": (("postgresql", "postgres"), "psycopg", "postgres", "postgresql://millrace@127.0.0.1/millrace"),
}


def invalid_shared(tree: dict[str, Any]) -> Iterator[Fault]:
    """Yield faults of what replicas share. No URL is repeated, since it may hold a password."""
    for key, (schemes, module, extra, example) in _STORES.items():
        url = at(tree, "shared", key)
        if not isinstance(url, str):
            continue
        if not _is_url(url, schemes):
            yield Fault(f"shared.{key}", f'it is no URL; write {key} = "{example}"')
        elif importlib.util.find_spec(module) is None:
            yield Fault(f"shared.{key}", f"{module} is not installed; run: pip install 'millrace[{extra}]'")
    address = at(tree, "shared", "address")
    if isinstance(address, str) and not _is_url(address, ("http", "https")):
        advice = 'write where the other replicas reach this one: address = "http://10.0.0.5:8000"'
        yield Fault("shared.address", f"it is no URL; {advice}")
    if at(tree, "server", "data_dir") == IN_MEMORY and isinstance(at(tree, "shared", "postgres"), str):
        yield Fault(
            "shared.postgres", "rows wait on the disk while PostgreSQL is away; name a folder as server.data_dir"
        )


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname or parts.path) and parts.port != 0
    except ValueError:
        return False
