"""What accounts have spent at all replicas: a table of dollars by data_dir and UTC day, kept by PostgreSQL itself.

Its triggers add the cost of each row of the ledger that arrives, whichever version of Millrace sends it.
"""

from typing import Any

from millrace.stores.accounts import Today
from millrace.stores.postgres.database import PostgresDatabase
from millrace.stores.spending import OF, SCAN_S, all_spent, day_of
from millrace.types.budget import AccountName, Spent

_BY_SPOOL = """
SELECT spool, coalesce(sum(CASE WHEN day >= ? THEN nanodollars END), 0), sum(nanodollars)
FROM spent WHERE tenant = ? AND day >= ? AND {of} GROUP BY spool
"""

Spools = dict[str, tuple[int, int]]  # by data_dir: nanodollars of the day and of the month


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

    async def by_spool(self, name: AccountName, today: Today, *, within_s: float) -> Spools:
        """Return what an account has spent, by data_dir. Raises `TimeoutError`."""
        query = _BY_SPOOL.format(of=OF[name.kind])
        values = day_of(today.day), name.tenant, day_of(today.month), name.name

        def read(connection: Any) -> Spools:
            return {spool: (day, month) for spool, day, month in connection.execute(query, values)}

        found: Spools = await self._database.read(read, within_s=within_s)
        return found
