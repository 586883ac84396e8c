"""The tables in PostgreSQL, as steps in order. A step that was released is never changed: another one follows it.

All steps that a database lacks run in one transaction, under a lock, so that two who upgrade at once do it once.
"""

import re
from typing import NamedTuple

from psycopg import sql

from millrace.stores.postgres.connection import Connection
from millrace.stores.postgres.days import found as days_there
from millrace.stores.postgres.tables import STEPS

_LOCK = 6_511_274_209  # of the advisory locks: who changes the tables
_EXISTS = "SELECT to_regclass('schema_steps') IS NOT NULL"
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_steps (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    done_at TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""


_MADE = re.compile(r"CREATE (TABLE|INDEX|SEQUENCE|FUNCTION|TRIGGER) (\w+)")
_THERE = """
SELECT CASE WHEN relkind = 'S' THEN 'sequence' WHEN relkind IN ('i', 'I') THEN 'index' ELSE 'table' END, relname
FROM pg_class JOIN pg_namespace AS schema ON schema.oid = relnamespace WHERE nspname = current_schema()
UNION ALL
SELECT 'function', proname FROM pg_proc JOIN pg_namespace AS schema ON schema.oid = pronamespace
WHERE nspname = current_schema()
UNION ALL
SELECT 'trigger', tgname FROM pg_trigger JOIN pg_class AS named ON named.oid = tgrelid
JOIN pg_namespace AS schema ON schema.oid = relnamespace WHERE nspname = current_schema() AND tgparentid = 0
"""


class Found(NamedTuple):
    """What a database has: the number of its last step, and that of the last one that is known here."""

    has: int  # 0: nothing yet
    known: int
    missing: tuple[str, ...] = ()  # what the steps that were done have made, and is not there
    days: tuple[int, ...] = ()  # of the ledger, UTC days since 1970


def found(connection: Connection) -> Found:
    """Return what a database has."""
    known = STEPS[-1].number
    ((exists,),) = connection.execute(_EXISTS).fetchall()
    if not exists:
        return Found(0, known)
    ((has,),) = connection.execute("SELECT coalesce(max(number), 0) FROM schema_steps").fetchall()
    if not has:
        return Found(0, known)
    there = {f"{kind} {name}" for kind, name in connection.execute(_THERE).fetchall()}
    made = (made for step in STEPS if step.number <= has for text in step.statements for made in _MADE.findall(text))
    missing = sorted({f"{kind.lower()} {name}" for kind, name in made} - there)
    return Found(has, known, tuple(missing), () if "table entries" in missing else tuple(days_there(connection)))


def upgrade(connection: Connection, schema: str) -> list[str]:
    """Run the steps that a database lacks; return their names. One that is newer is left alone."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
        connection.raw.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        connection.execute(_TABLE)
        has = found(connection).has
        steps = [step for step in STEPS if step.number > has]
        for step in steps:
            for statement in step.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO schema_steps (number, name) VALUES (?, ?)", (step.number, step.name))
    return [step.name for step in steps]
