"""What a store needs of a database to read, in SQLite or in PostgreSQL: the same statements serve both."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

Dialect = Literal["sqlite", "postgres"]


class Queries(Protocol):
    """A database. Statements have question marks for values; they read and write what both databases know."""

    dialect: Dialect

    def prepare(self, make: Callable[[Any], Any]) -> None:
        """Have a store make its tables, or add what those of an earlier version lack, unless migrations have."""
        ...

    def write(
        self,
        operation: Callable[[Any], Any],
        size: int = 0,
        *,
        droppable: bool = False,
        on_written: Callable[[], object] | None = None,
    ) -> bool:
        """Queue an operation that writes. Never waits. False if it was dropped, being droppable."""
        ...

    async def commit(self, operation: Callable[[Any], Any], *, within_s: float) -> Any:
        """Run an operation; return its result once it is committed. Raises its error, or `TimeoutError`."""
        ...

    async def read(self, operation: Callable[[Any], Any], *, within_s: float) -> Any:
        """Look something up. Raises its error, or `TimeoutError`."""
        ...

    def scan(self, operation: Callable[[Any], Any], *, within_s: float) -> Any:
        """Read many rows. Blocks, so never call it on the loop. Raises its error, or `TimeoutError`."""
        ...

    async def scanned(self, operation: Callable[[Any], Any], *, within_s: float) -> Any:
        """Read many rows, from the loop. Raises as `scan` does."""
        ...
