"""Gives entries of an earlier embedder, or of earlier rules, the vectors of today, in idle time.

Until then they are not found. What the rules of today do not allow to be kept is deleted.
"""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from millrace import log
from millrace.caches.partition import Stored
from millrace.caches.segment import Vector
from millrace.caches.table import EntryTable

STEP = 16  # entries, which take some milliseconds

Renew = Callable[[Stored], tuple[Stored, Vector] | None]  # None: it may not be kept
Background = Callable[[Callable[[], object]], None]  # queues work behind lookups; called on any thread


class Renewal:
    """Goes on, step by step, until nothing is left."""

    def __init__(
        self,
        table: EntryTable,
        renew: Renew,
        background: Background,
        on_renewed: Callable[[bytes, Stored, Vector], object],
    ) -> None:
        """`on_renewed` is told, in the background, of each entry of a scope whose vector is on disk now."""
        self._table = table
        self._renew = renew
        self._background = background
        self._on_renewed = on_renewed

    def step(self) -> None:
        """Renew some entries, and queue the next step for when these are on disk."""
        try:
            outdated = self._table.outdated(STEP)
        except (sqlite3.Error, TimeoutError) as error:
            log.get().warning("entries of an earlier embedder not read", exc_info=error)
            return
        for each in outdated:
            renewed = self._renew(each.entry)
            if renewed is None:
                self._table.drop(each.entry.id)
            else:
                self._table.renew(*renewed).add_done_callback(partial(self._on_done, each.scope, *renewed))
        if outdated:
            self._table.after_writes(partial(self._background, self.step))

    def _on_done(self, scope: bytes, entry: Stored, vector: Vector, done: "Future[bool]") -> None:
        if done.result():
            self._background(partial(self._on_renewed, scope, entry, vector))
