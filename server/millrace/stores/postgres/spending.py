"""What accounts have spent at all replicas: a table of dollars by data_dir and UTC day, kept by PostgreSQL itself.

Its triggers add the cost of each row of the ledger that arrives, whichever version of Millrace sends it.
"""

from collections.abc import Collection
from typing import Any

from millrace.stores.accounts import Today
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.spending import OF, SCAN_S, all_spent, day_of
from millrace.types.budget import AccountName, Spent

_BY_SPOOL = """
SELECT spool, coalesce(sum(CASE WHEN day >= ? THEN nanodollars END), 0), sum(nanodollars)
FROM spent WHERE tenant = ? AND day >= ? AND {of} GROUP BY spool
"""

READ_S = 1.0  # for some accounts


class PostgresSpending:
    """Reads it. What has ended within about the last second may not have arrived."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def all_spent(self, today: Today) -> dict[AccountName, Spent]:
        """Return what each account has spent at all replicas. Raises `TimeoutError`."""
        spent: dict[AccountName, Spent] = await self._database.scanned(
            lambda connection: all_spent(connection, today), within_s=SCAN_S
        )
        return spent

    async def by_spool(
        self, names: Collection[AccountName], today: Today
    ) -> dict[AccountName, dict[str, tuple[int, int]]]:
        """Return the nanodollars of the day and month by account and data_dir. Raises `TimeoutError`."""

        def read(connection: Any) -> dict[AccountName, dict[str, tuple[int, int]]]:
            found = {}
            for name in names:
                values = day_of(today.day), name.tenant, day_of(today.month), name.name
                rows = connection.execute(_BY_SPOOL.format(of=OF[name.kind]), values)
                found[name] = {spool: (day, month) for spool, day, month in rows}
            return found

        spools: dict[AccountName, dict[str, tuple[int, int]]] = await self._database.read(read, within_s=READ_S)
        return spools
