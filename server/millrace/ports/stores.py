"""Responses, keys, limits and bills."""

import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Protocol

from millrace.errors import MillraceError
from millrace.principal import Key, Principal
from millrace.types import Entry, Past, Selection, StoredResponse
from millrace.types.budget import Budget, Left, Rest, Step


class Archive(Protocol):
    """Responses of requests with `store: true`."""

    def store(self, response: StoredResponse) -> None:
        """Store a response. Never waits; the write to disk is queued."""
        ...

    async def find(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Return a response of this tenant; None if it is not stored. Raises `overloaded` if the disk is late."""
        ...

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Delete a response on disk; False if there was none. Raises `overloaded` if the disk is late."""
        ...


class KeyStore(Protocol):
    """Stores API keys. Other processes may add and revoke keys at any time."""

    async def load(self) -> list[Key]:
        """Return all keys, revoked ones included, oldest first. Returns the same list object if nothing has changed."""
        ...

    async def add(self, key: Key) -> None:
        """Store a new key; return when it is on disk."""
        ...

    async def revoke(self, key_id: str, at: float) -> bool:
        """Mark a key as revoked at Unix seconds; False if there is no such key or it was revoked before."""
        ...

    async def rotate(self, key_id: str, digest: bytes, until: float) -> bool:
        """Give a key another secret, by its hash; the present one is refused from Unix seconds `until` on.

        False if there is no such key or it is revoked.
        """
        ...


class Admission(Protocol):
    """The reservation of an admitted request, until its cost is known."""

    limits_cost: bool  # dollars may run out while the request runs

    @property
    def reserved(self) -> Decimal:
        """Dollars that are reserved so far."""
        ...

    def reserve_more(self, cost: Decimal, tokens: int) -> Decimal:
        """Reserve up to `cost` dollars more, and the tokens that they buy; return the dollars that there were left."""
        ...

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Replace the reservation by what was used, in dollars and tokens. Only the first call has an effect."""
        ...


class Admitted(Admission, Protocol):
    """An admission, and what its limits say of the request."""

    budget: Budget | None  # the scarcest of its budgets, if that has reached a step
    rest: Rest | None  # what it may cost at most, where that is less than it is likely to

    def used_up(self) -> MillraceError:
        """Return the error of a request that has used all there is of a budget."""
        ...

    def left(self) -> Left | None:
        """Return what is left of the limits now; None if nothing is limited."""
        ...


class Limiter(Protocol):
    """Rate limits and budgets of keys, tenants, end users and tags."""

    @property
    def is_shared(self) -> bool:
        """Whether limits are shared with other replicas, so that a request is to be drawn before it is admitted."""
        ...

    def limits(self, principal: Principal, user: str = "", tag: str = "") -> bool:
        """Whether anything is limited, so that what a request is likely to cost is of interest."""
        ...

    def has_budget(self, principal: Principal, user: str = "", tag: str = "") -> bool:
        """Whether dollars are limited."""
        ...

    async def prepare(self, principal: Principal, user: str = "", tag: str = "") -> None:
        """Read what was spent, where that is not known, before a request is admitted. Raises `overloaded`."""
        ...

    def lacks(self, principal: Principal, user: str = "", tag: str = "") -> bool:
        """Whether it is not known what was spent, so that a request is to be prepared before it is admitted."""
        ...

    def drawn(
        self, principal: Principal, cost: Decimal, tokens: int, user: str = "", tag: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """Have what a request is likely to need at hand while it is admitted, within the context.

        There it is to be seen again whether the limiter `lacks` something. Raises `overloaded`.
        """
        ...

    def step(self, principal: Principal, user: str = "", tag: str = "") -> Step | None:
        """Return what is done with a request because a budget runs out."""
        ...

    def admit(
        self,
        principal: Principal,
        likely_cost: Decimal,
        likely_tokens: int,
        user: str = "",
        tag: str = "",
        *,
        least_cost: Decimal | None = None,
        browns_out: bool = False,
        in_frames: bool = False,
    ) -> Admitted:
        """Reserve dollars and tokens for one request. The caller must settle the admission on every path.

        `least_cost`: with so much of a budget it can begin, to be cut where the rest of that ends. `browns_out`: it may
        be answered by the caches alone, where a budget is spent. `in_frames`: its client is told of a step in frames.
        Raises `too_many_in_flight`, `rate_limit_exceeded` or `budget_exceeded`.
        """
        ...


class Rows(Protocol):
    """Reads the rows of the ledger. Numbers go up in the order in which requests end."""

    async def find(self, request_id: str, tenant: str | None = None) -> tuple[int, Entry] | None:
        """Return the number of a row and the row, open or not; None if there is none, or it is not of this tenant."""
        ...

    async def beginning(self, text: str) -> list[Entry]:
        """Return up to two rows whose id begins so."""
        ...

    async def latest(self, selection: Selection, most: int, before: float = math.inf) -> tuple[list[Entry], int]:
        """Return the rows that have ended last, the latest first, and the number to go on from with `after`."""
        ...

    async def after(self, number: int, selection: Selection, most: int) -> tuple[list[Entry], int]:
        """Return rows that have ended since a number, in that order, and the number to go on from."""
        ...

    async def extent(self, selection: Selection) -> tuple[int, int]:
        """Return how many rows are selected, and a number after which they all are."""
        ...

    async def count_before(self, opened_before: float) -> int:
        """Return how many rows `delete_before` would delete."""
        ...

    async def delete_before(self, opened_before: float) -> int:
        """Delete some rows opened before then (Unix seconds) that have ended; return how many, 0 at the end."""
        ...


class Ledger(Protocol):
    """Stores bills. Rows are written in order, off the event loop."""

    def opened(self, entry: Entry) -> None:
        """Record that a request began, or that more is booked for it: what it counts as if the process dies."""
        ...

    @property
    def wants_progress(self) -> bool:
        """Whether another process counts what this one spends, so that `progressed` is of use."""
        ...

    def progressed(self, entry: Entry) -> None:
        """Record what an open request has cost so far."""
        ...

    def settled(self, entry: Entry) -> None:
        """Record how it ended and what it cost."""
        ...


class PastRequests(Protocol):
    """The requests in the ledger that have ended. Everything raises `TimeoutError` if the disk is too slow."""

    async def ended(self, since: float, tenant: str | None = None) -> Sequence[int]:
        """Return the numbers of the requests that were opened since then (Unix seconds), the oldest first."""
        ...

    async def read(self, numbers: Sequence[int], *, stories: bool = False) -> list[Past]:
        """Return the requests of these numbers in their order; without those that are gone meanwhile."""
        ...
