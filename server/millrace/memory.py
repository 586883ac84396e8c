"""One budget of bytes for all that this process stores, queues and caches. Each of these has an account in it.

An account reports its bytes when it is asked: as a request comes in, or as an operator looks. Nothing is counted here
per token. The bytes are estimates, and the program itself is not among them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from millrace.errors import MillraceError

RETRY_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One store, queue or cache."""

    name: str
    used: Callable[[], int]  # bytes, found out without a loop over what it keeps
    allowed: int  # bytes; it keeps to this by itself
    give_way: Callable[[int], None] | None = None  # only of a cache: free so many bytes, at once or soon


class Tally:
    """The bytes of something that many take part in: each counts what it brings and what it takes away."""

    def __init__(self, allowed: int) -> None:
        self.used = 0
        self.allowed = allowed

    def take(self, size: int) -> None:
        """Count so many bytes more. Raises `overloaded` if they do not fit; alone they always do."""
        if size and self.used and self.used + size > self.allowed:
            raise full()
        self.used += size

    def give(self, size: int) -> None:
        """Count so many bytes less."""
        self.used -= size


class MemoryBudget:
    """The accounts of a process, and what they may use together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes
        self.accounts: list[Account] = []

    @property
    def used(self) -> int:
        """Bytes of all accounts."""
        return sum(account.used() for account in self.accounts)

    def add(
        self,
        name: str,
        used: Callable[[], int],
        allowed: int | None = None,
        give_way: Callable[[int], None] | None = None,
    ) -> None:
        """Open an account. Without `allowed` only the budget bounds it, because new requests are refused."""
        allowed = self.limit if allowed is None else min(allowed, self.limit)
        self.accounts.append(Account(name=name, used=used, allowed=allowed, give_way=give_way))

    def tally(self, name: str, allowed: int) -> Tally:
        """Open an account that others count for."""
        tally = Tally(allowed)
        self.add(name, lambda: tally.used, allowed)
        return tally

    def admit(self, size: int) -> None:
        """Raise `overloaded` if so many bytes more do not fit.

        Caches give way before that. What runs already is never ended for it.
        """
        for account in self.accounts:
            excess = self.used + size - self.limit
            if excess <= 0:
                return
            if account.give_way is not None:
                account.give_way(excess)
        if self.used + size > self.limit:
            raise full()


def full() -> MillraceError:
    """Return the error of a request for which there is no memory now."""
    return MillraceError("overloaded", "the server's memory is in use; try again in a second", retry_after_ms=RETRY_MS)
