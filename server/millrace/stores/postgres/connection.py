"""A connection to PostgreSQL that takes the statements of SQLite's stores, so that one query serves both.

Placeholders are question marks. Whole numbers are ints, also sums of them, which PostgreSQL makes `numeric`.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict

CONNECT_S = 3  # whole seconds, as libpq has it
# A peer that is gone without a word is given up after about 10 s, on whichever side it is noticed first.
_PATIENCE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_QUOTED = re.compile(r"('[^']*')")


class _Whole(Loader):
    """Reads `numeric` as the nearest thing that SQLite has: an int, or a float."""

    def load(self, data: Buffer) -> int | float:
        number = Decimal(bytes(data).decode())
        return int(number) if number == number.to_integral_value() else float(number)


class Connection:
    """One connection, used by one thread."""

    def __init__(self, url: str, schema: str) -> None:
        """Connect. Names without a schema are looked for in `schema`. Raises `psycopg.OperationalError`."""
        self.raw = psycopg.connect(
            url, autocommit=True, connect_timeout=CONNECT_S, application_name="millrace", **_PATIENCE
        )
        self.raw.adapters.register_loader("numeric", _Whole)
        self.raw.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))

    def execute(self, query: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """Run a statement; the cursor is read as one of SQLite."""
        return self.raw.execute(_translated(query), values or None)

    def executemany(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row, in few round trips."""
        self.raw.cursor().executemany(_translated(query), rows)

    def transaction(self) -> Any:
        """Return what commits all statements inside it, or none."""
        return self.raw.transaction()

    @property
    def is_lost(self) -> bool:
        """Whether it is of no more use."""
        return bool(self.raw.closed or self.raw.broken)

    def close(self) -> None:
        """Close it."""
        self.raw.close()


def shown(url: str) -> str:
    """Return the address in a URL, without user and password."""
    parts = conninfo_to_dict(url)
    hosts = str(parts.get("host") or "localhost").split(",")
    ports = str(parts.get("port") or "").split(",")
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    shown = (
        host if host.startswith("/") else f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=True)
    )
    return f"{','.join(shown)}/{parts.get('dbname') or ''}"


def told(error: BaseException) -> str:
    """Return what went wrong, without the rows that PostgreSQL quotes beside it."""
    words = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return words or str(error).strip()


@lru_cache(maxsize=512)
def _translated(query: str) -> bytes:
    """Return a statement in psycopg's form: question marks outside of quotes are placeholders."""
    parts = _QUOTED.split(query.replace("%", "%%") if "?" in query else query)
    return "".join(part if at % 2 else part.replace("?", "%s") for at, part in enumerate(parts)).encode()
