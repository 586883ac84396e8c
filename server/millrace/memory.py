"""One budget of bytes for all that this process stores, queues and caches. Each of these has an account in it.

An account reports its bytes when it is asked: as a request comes in, or as an operator looks. Nothing is counted here
per token. The bytes are estimates, and the program itself is not among them.

Requests are counted by tenant, from their first byte to their end, and a tenant has its share: see `Shares`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from msgspec import Struct

from millrace.errors import MillraceError

RETRY_MS = 1000
LOOK_S = 0.1  # for which it is known what is free, while plenty is
PLENTY = 8  # the part of the limit that is
SHORT = 64 * 1024  # bytes that a request holds; its text has less than a third of them


class Account(Struct, frozen=True, kw_only=True):
    """One store, queue or cache."""

    name: str
    used: Callable[[], int]  # bytes, found out without a loop over what it keeps
    allowed: int  # bytes; it keeps to this by itself
    give_way: Callable[[int], None] | None = None  # only of a cache: free so many bytes, at once or soon


class Shares:
    """What tenants hold of something, in bytes or in places. `free` tells how much nobody holds.

    A tenant may hold as much as is still free. So one alone holds up to half of all, two hold up to a third each, and
    there is always room for one more. Where there is only one tenant (`are_many`), it may hold all. What is long leaves
    as much again for what is short.
    """

    def __init__(self, free: Callable[[], int], are_many: Callable[[], bool] = lambda: True) -> None:
        self.used = 0
        self._free = free
        self._are_many = are_many
        self._held: dict[str, int] = {}

    def held(self, tenant: str) -> int:
        """Return what a tenant holds."""
        return self._held.get(tenant, 0)

    def count(self, tenant: str, more: int) -> None:
        """Count so many bytes more, or less, whether they fit or not."""
        self.used += more
        held = self._held.get(tenant, 0) + more
        if held:
            self._held[tenant] = held
        else:
            self._held.pop(tenant, None)

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """Count one place more for a while."""
        self.count(tenant, 1)
        try:
            yield
        finally:
            self.count(tenant, -1)

    def excess(self, tenant: str) -> int:
        """Return by how much a tenant holds more than is free; 0 or less if it does not."""
        return self.held(tenant) - self._free()

    def lack(self, tenant: str, more: int, own: int = 0, *, is_long: bool = False) -> int:
        """Return how much is missing for a tenant's `more`; 0 or less if it fits.

        It is for something that has its `own` bytes already. If the tenant holds nothing else, all that is free is for
        it.
        """
        held = self.held(tenant)
        as_much_again = 0 if held == own else self._are_many() + is_long
        return as_much_again * (held + more) + more - self._free()


class Hold:
    """What one request or one connection holds of its tenant's share."""

    __slots__ = ("_budget", "_tenant", "size")

    def __init__(self, budget: "MemoryBudget", tenant: str) -> None:
        self.size = 0  # bytes
        self._budget = budget
        self._tenant = tenant

    def resize(self, size: int) -> None:
        """Hold so many bytes from now on. Raises `overloaded` if they do not fit; fewer always do."""
        if size > self.size:
            self._budget.check(self._tenant, size - self.size, self.size)
        self.count(size)

    def count(self, size: int) -> None:
        """Hold so many bytes from now on, whether they fit or not."""
        if size != self.size:
            self._budget.requests.count(self._tenant, size - self.size)
            self.size = size

    def move(self, size: int | None = None) -> Self:
        """Hand so many bytes over to a new hold, without a gap; by default all. It has no more than there are."""
        moved = type(self)(self._budget, self._tenant)
        moved.size = self.size if size is None else min(size, self.size)
        self.size -= moved.size
        return moved

    def close(self) -> None:
        """Hold nothing any more. Idempotent."""
        self.count(0)


class MemoryBudget:
    """The accounts of a process, and what they may use together."""

    def __init__(self, limit: int, are_many: Callable[[], bool] = lambda: True) -> None:
        self.limit = limit  # bytes
        self.are_many = are_many  # tenants
        self.accounts: list[Account] = []
        self.requests = Shares(lambda: self.limit - self.used, are_many)  # on their way and running
        self.add("requests", lambda: self.requests.used)
        self._looked_at = 0.0
        self._others = 0  # bytes of all accounts but that of requests, then

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

    def hold(self, tenant: str) -> Hold:
        """Return a hold of nothing yet. Whoever has it closes it."""
        return Hold(self, tenant)

    def check(self, tenant: str, more: int, own: int = 0) -> None:
        """Raise `overloaded` if so many bytes more of a tenant do not fit; see `Shares.lack`.

        Caches give way before that. What runs already is never ended for it.
        """
        if self._has_plenty(tenant, more):
            return
        is_long = own + more > SHORT
        for account in self.accounts:
            lack = self.requests.lack(tenant, more, own, is_long=is_long)
            if lack <= 0:
                return
            if account.give_way is not None:
                account.give_way(lack)
        if self.requests.lack(tenant, more, own, is_long=is_long) > 0:
            raise full()

    def _has_plenty(self, tenant: str, more: int) -> bool:
        """Whether so much is free that all accounts need not be asked for a tenant's `more`."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_S:
            self._looked_at = now
            self._others = self.used - self.requests.used
        free = self.limit - self._others - self.requests.used
        return free > self.limit // PLENTY and 4 * (self.requests.held(tenant) + more) < free


def full() -> MillraceError:
    """Return the error of a request for which its tenant has no memory now."""
    message = "the memory that is left for your requests is in use; try again in a second"
    return MillraceError("overloaded", message, retry_after_ms=RETRY_MS)
