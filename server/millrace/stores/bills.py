"""What the ledger adds up: of sessions, of what caches have answered, and of what evidence has asked."""

from typing import Any

from millrace.pricing import NANODOLLAR
from millrace.stores.queries import Queries
from millrace.types import EMBEDDINGS, EVIDENCE_TENANT, EvidenceCost, Served, SessionBill

SCAN_S = 60.0  # to add up some days

_SESSIONS = """
SELECT session, tenant, min(opened_at), max(opened_at), count(*), sum(input_tokens), sum(cached_input_tokens),
    sum(output_tokens), sum(cost_nanodollars), sum(saved_nanodollars)
FROM entries WHERE session != '' AND opened_at >= ? AND status != 'open'
GROUP BY tenant, session ORDER BY max(opened_at) DESC LIMIT ?
"""
_SERVED = """
SELECT tenant, count(*), count(*) FILTER (WHERE cache = 'exact'), count(*) FILTER (WHERE cache = 'semantic'),
    count(*) FILTER (WHERE cache = 'joined')
FROM entries WHERE opened_at >= ? AND strategy != ? AND tenant != ? GROUP BY tenant
"""
_SERVED_BY = "SELECT count(*) FROM entries WHERE entry_id = ? AND entry_id != ''"
# The tenant is written out, as in its index.
_EVIDENCE = f"""
SELECT count(*), coalesce(sum(cost_nanodollars), 0) FROM entries WHERE tenant = '{EVIDENCE_TENANT}' AND opened_at >= ?
"""  # noqa: S608 - a name of our own


class Bills:
    """Reads a ledger, of one data_dir or of all replicas. Everything raises `TimeoutError` if that takes too long."""

    def __init__(self, database: Queries) -> None:
        self._database = database

    async def sessions(self, opened_at: float, most: int) -> list[SessionBill]:
        """Return the bills of the latest sessions, of their requests that were opened since then (Unix seconds)."""
        return [
            SessionBill(
                session=session,
                tenant=tenant,
                began_at=began_at,
                last_at=last_at,
                requests=requests,
                input_tokens=input_tokens,
                cached_input_tokens=cached,
                output_tokens=output_tokens,
                cost=cost * NANODOLLAR,
                saved=saved * NANODOLLAR,
            )
            for (
                session,
                tenant,
                began_at,
                last_at,
                requests,
                input_tokens,
                cached,
                output_tokens,
                cost,
                saved,
            ) in await self._scan(_SESSIONS, opened_at, most)
        ]

    async def served(self, since: float, tenant: str | None) -> dict[str, Served]:
        """Return how many requests the caches have answered, by tenant, of those opened since then (Unix seconds)."""
        return {
            whose: Served(requests=requests, exact=exact, semantic=semantic, joined=joined)
            for whose, requests, exact, semantic, joined in await self._scan(
                _SERVED, since, EMBEDDINGS, EVIDENCE_TENANT
            )
            if tenant in (None, whose)
        }

    async def served_by(self, entry_id: str) -> int:
        """Return how many requests a stored answer has answered."""
        ((count,),) = await self._scan(_SERVED_BY, entry_id)
        return int(count)

    async def evidence_cost(self, since: float) -> EvidenceCost:
        """Return the cost of what evidence has asked since then (Unix seconds); what is open counts at its highest."""
        ((requests, nanodollars),) = await self._scan(_EVIDENCE, since)
        return EvidenceCost(requests=requests, dollars=nanodollars * NANODOLLAR)

    async def _scan(self, query: str, *values: float | str | None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._database.scanned(
            lambda connection: connection.execute(query, values).fetchall(), within_s=SCAN_S
        )
        return rows
