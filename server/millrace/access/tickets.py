"""Tickets: a browser cannot send a key with a WebSocket, so its server trades the key for a single-use ticket.

A ticket is 256 random bits, valid for one connection from one origin within a minute. Only its hash is kept, in memory,
and where all workers of the server find it, or all replicas: whoever takes it from there redeems it. A ticket that the
replicas cannot find, since what they share is away, is good at the one that has issued it.
"""

import hashlib
import math
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace.access.origins import parse
from millrace.errors import MillraceError
from millrace.ports import Clock
from millrace.principal import Principal
from millrace.wire import limits

CAPACITY = 10_000  # unused tickets in all
TICKET_BYTES = 500  # of one in memory, about
PER_KEY = 1000  # unused tickets of one key

_REFUSED = "ticket: unknown, used, expired or for another Origin; get a new one from POST /v1/tickets"


class Shelf(Protocol):
    """What all workers of a server see. Each call takes some µs."""

    def put(self, key: bytes, value: bytes) -> None:
        """Keep a value."""
        ...

    def take(self, key: bytes) -> bytes | None:
        """Return a value and keep it no more; None if it is not there, or another one has taken it."""
        ...


class SharedShelf(Protocol):
    """What all replicas see."""

    async def put(self, key: bytes, value: bytes, seconds: float) -> bool:
        """Keep a value for so long; return whether the others can take it."""
        ...

    async def take(self, key: bytes) -> bytes | None:
        """Return a value and keep it no more; None if it is not there. Raises `OSError` if that cannot be known."""
        ...


class _Shown(msgspec.Struct, omit_defaults=True):
    """A ticket on a shelf. The clock of all processes of a machine is the same."""

    key_id: str
    rotations: int
    origin: str
    expires_at: float
    is_shared: bool = False


class _Ticket(Struct, frozen=True):
    principal: Principal
    origin: tuple[str, str, int] | None
    expires_at: float  # by the clock, in seconds
    is_shared: bool = False  # all replicas have seen it, so one of them may have redeemed it

    def shown(self, origin: str) -> bytes:
        """Return it as it is on a shelf."""
        principal = self.principal
        shown = _Shown(principal.key_id, principal.rotations, origin, self.expires_at, self.is_shared)
        return msgspec.json.encode(shown)


class Fetched(Struct, frozen=True):
    """What was found of a ticket where all replicas have theirs: it may be nothing."""

    ticket: _Ticket | None


class Tickets:
    """The unused tickets. `owner` returns the principal of a key, if that is still valid."""

    def __init__(
        self,
        clock: Clock,
        owner: Callable[[str], Principal | None],
        shelf: Shelf | None = None,
        shared: SharedShelf | None = None,
    ) -> None:
        self._clock = clock
        self._owner = owner
        self._shelf = shelf
        self._shared = shared
        self._unused: dict[bytes, _Ticket] = {}  # by hash, oldest first, so the next to expire is in front
        self._per_key: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._unused)

    def issue(self, principal: Principal, origin: str) -> str:
        """Return a new ticket, valid for `limits.TICKET_S` seconds. Raises `rate_limit_exceeded` or `overloaded`."""
        now = self._clock()
        self._expire(now)
        if self._per_key[principal.key_id] >= PER_KEY:
            raise MillraceError(
                "rate_limit_exceeded",
                "this key has too many unused tickets; use them, or try again later",
                retry_after_ms=1000,
            )
        if len(self._unused) >= CAPACITY:
            raise MillraceError("overloaded", "too many unused tickets; try again later", retry_after_ms=1000)
        ticket = secrets.token_urlsafe(32)
        digest = _digest(ticket)
        issued = self._unused[digest] = _Ticket(principal, parse(origin), now + limits.TICKET_S)
        if self._shelf is not None:
            self._shelf.put(digest, issued.shown(origin))
        self._per_key[principal.key_id] += 1
        return ticket

    async def share(self, ticket: str, origin: str) -> None:
        """Let the other replicas have a ticket that was just issued, if there are any."""
        digest = _digest(ticket)
        issued = self._unused.get(digest)
        if self._shared is None or issued is None:
            return
        issued = replace(issued, is_shared=True)
        if await self._shared.put(digest, issued.shown(origin), limits.TICKET_S) and digest in self._unused:
            self._unused[digest] = issued
            if self._shelf is not None:
                self._shelf.put(digest, issued.shown(origin))

    async def fetch(self, ticket: str) -> Fetched | None:
        """Take a ticket from where all replicas have theirs, to redeem it; None if what this one knows must do."""
        if self._shared is None:
            return None
        try:
            taken = await self._shared.take(_digest(ticket))
        except OSError:
            return None
        found = None if taken is None else self._read(taken)
        return Fetched(None if found is None else replace(found, expires_at=math.inf))  # it would not be there

    def redeem(self, ticket: str, origin: str, fetched: Fetched | None = None) -> Principal:
        """Use up a ticket and return its owner. Raises `unauthorized`.

        A ticket that is refused is used up too: if it arrives late or from another origin, others have seen it.
        """
        digest = _digest(ticket)
        found = self._remove(digest) if self._shelf is None else self._taken(digest, self._shelf)
        if fetched is not None and (found is None or found.is_shared or fetched.ticket is not None):
            found = fetched.ticket
        fits = found is not None and found.expires_at > self._clock() and found.origin == parse(origin) is not None
        if found is None or not fits or self._owner(found.principal.key_id) is None:
            raise MillraceError("unauthorized", _REFUSED)
        return found.principal

    def _taken(self, digest: bytes, shelf: Shelf) -> _Ticket | None:
        """Return a ticket of any worker, unless another one has redeemed it."""
        own, taken = self._remove(digest), shelf.take(digest)
        if own is not None or taken is None:
            return None if taken is None else own
        return self._read(taken)

    def _read(self, taken: bytes) -> _Ticket | None:
        shown = msgspec.json.decode(taken, type=_Shown)
        owner = self._owner(shown.key_id)
        if owner is None:
            return None
        principal = replace(owner, rotations=shown.rotations)
        return _Ticket(principal, parse(shown.origin), shown.expires_at, shown.is_shared)

    def _remove(self, key: bytes) -> _Ticket | None:
        found = self._unused.pop(key, None)
        if found is not None:
            owner = found.principal.key_id
            self._per_key[owner] -= 1
            if not self._per_key[owner]:
                del self._per_key[owner]
        return found

    def _expire(self, now: float) -> None:
        while self._unused and (oldest := next(iter(self._unused.items())))[1].expires_at <= now:
            self._remove(oldest[0])
            if self._shelf is not None:
                self._shelf.take(oldest[0])


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()
