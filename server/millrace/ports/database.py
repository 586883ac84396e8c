"""The file that caches and stores share, and what waits to be written to it."""

import sqlite3
from collections.abc import Callable
from typing import Any, Protocol


class Database(Protocol):
    """One SQLite file that caches and stores share. Writes are queued; lookups wait for none of them."""

    def write(
        self,
        operation: Callable[[sqlite3.Connection], Any],
        size: int = 0,
        *,
        droppable: bool = False,
        on_written: Callable[[], object] | None = None,
    ) -> bool:
        """Queue an operation that writes about `size` bytes. Never waits. False if it was dropped, being droppable.

        `on_written` is called once it is committed, on another thread.
        """
        ...

    async def commit(self, operation: Callable[[sqlite3.Connection], Any], *, within_s: float) -> Any:
        """Run an operation after all that are queued; return its result once it is committed, or raise its error.

        Raises `TimeoutError` if it takes too long; then it is not done, unless it had begun.
        """
        ...

    async def read(self, operation: Callable[[sqlite3.Connection], Any], *, within_s: float) -> Any:
        """Look something up in what is committed. Raises `TimeoutError` if it takes too long."""
        ...

    def scan(self, operation: Callable[[sqlite3.Connection], Any], *, within_s: float) -> Any:
        """Read many rows. Blocks, so never call it on the loop. Raises `TimeoutError` if it takes too long."""
        ...


class Backlog(Protocol):
    """What waits to be written."""

    @property
    def queued(self) -> int:
        """The number of writes that wait."""
        ...

    @property
    def queued_bytes(self) -> int:
        """The bytes of all writes that wait, about."""
        ...

    @property
    def oldest_s(self) -> float:
        """For how many seconds the first write has waited; 0 if none waits."""
        ...

    @property
    def dropped(self) -> int:
        """The number of writes of caches that were dropped, because too much waited."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no new request should be taken."""
        ...


class Claim(Protocol):
    """The right of one process to serve a data_dir."""

    def release(self) -> None:
        """Let another process serve. Idempotent."""
        ...
