"""The counts of one process: the encodings that its models need, and how their counts are corrected."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millrace import log, tokens
from millrace.funnel.catalog import Catalog
from millrace.funnel.ratios import Ratios
from millrace.runs.sweeper import Sweeper
from millrace.stores.ratios import SqliteRatios

KEEP_S = 60.0  # after which what was learned is kept


async def load_encodings(catalog: Catalog) -> None:
    """Build all encodings that are needed, off the loop."""
    await asyncio.to_thread(build_encodings, catalog)


def build_encodings(catalog: Catalog) -> None:
    """Build all encodings that are needed; the first count would wait for it."""
    for name in {tokens.O200K, *(model.encoding.name for model in catalog.identities)}:
        tokens.encoding(name)


@asynccontextmanager
async def kept_ratios(ratios: Ratios, store: SqliteRatios, sweeper: Sweeper) -> AsyncIterator[None]:
    """Go on with what was learned before, and keep what is learned, once a minute and at the end."""
    try:
        ratios.begin(await store.load())
    except Exception as error:  # it is learned again
        log.get().warning("how providers count was not read", exc_info=error)
    due_at = 0.0

    def keep(now: float) -> None:
        nonlocal due_at
        if ratios.is_changed and now >= due_at:
            due_at = now + KEEP_S
            store.keep(ratios.rows())

    sweeper.add(keep)
    try:
        yield
    finally:
        if ratios.is_changed:
            store.keep(ratios.rows())
