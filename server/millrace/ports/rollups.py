"""Rollups: what requests were, added up as they end, and kept when their rows are pruned."""

from collections.abc import Callable, Sequence
from typing import Protocol

from millrace.types import Past, Selection
from millrace.types.rollup import Cell, Part, Window

Merge = Callable[[bytes, bytes], bytes]  # what was added up before, and what comes to it


class RollupStore(Protocol):
    """Keeps what was added up. Everything raises `TimeoutError` if the disk is too slow."""

    async def through(self, version: int) -> int:
        """Return the number of the last row of the ledger that is in it.

        What another version has added up is forgotten.
        """
        ...

    async def add(self, cells: Sequence[Cell], after: int, through: int, merge: Merge) -> int:
        """Add cells, of the rows after one number up to another, and return the number of the last row that is in it.

        All of them or none: nothing is added if another process has added some of these rows.
        """
        ...

    async def cells(self, window: Window) -> list[tuple[int, str, bytes]]:
        """Return the cells of a window: when each begins, its model and what was added up. `model` is not heeded."""
        ...

    async def tags(self, window: Window) -> list[Part]:
        """Return what each tag has of a window, the most requests first; `tag` is not heeded."""
        ...

    async def tenants(self, window: Window) -> list[Part]:
        """Return what each tenant has of a window, the most requests first."""
        ...

    def forget(self, now: float) -> None:
        """Queue the deletion of what is too old (Unix seconds)."""
        ...


class EndedRows(Protocol):
    """Requests as they end. Everything raises `TimeoutError` if the disk is too slow."""

    async def after(self, number: int, most: int) -> tuple[list[Past], int, int]:
        """Return requests that have ended since a number, in that order, with their stories.

        Then the number to go on from, and the highest one there is.
        """
        ...

    async def latest(self, selection: Selection, before: float, most: int, within: int) -> tuple[list[Past], int]:
        """Return requests below a number, the latest end first, among the next `within` ended ones of all tenants.

        Then the number below which to go on; 0 if there is nothing.
        """
        ...
