"""Tickets: a browser cannot send a key with a WebSocket, so its server trades the key for a ticket that is used up.

A ticket is 256 random bits, good for one connection within a minute, from one Origin. Only its hash is kept, in memory.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from millrace.errors import MillraceError
from millrace.origins import parse
from millrace.ports import Clock
from millrace.principal import Principal
from millrace.wire import limits

CAPACITY = 10_000
PER_KEY = 1000

_REFUSED = "ticket: unknown, used, too old or of another Origin; get a new one from POST /v1/tickets"


@dataclass(frozen=True, slots=True)
class _Ticket:
    principal: Principal
    origin: tuple[str, str, int] | None
    expires_at: float  # by the clock


class Tickets:
    """The tickets that are out. `holds` says whether their owner's key is still good."""

    def __init__(self, clock: Clock, holds: Callable[[str], bool]) -> None:
        self._clock = clock
        self._holds = holds
        self._out: dict[bytes, _Ticket] = {}  # oldest first, so those that expire next are in front
        self._per_key: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._out)

    def issue(self, principal: Principal, origin: str) -> str:
        """Return a new ticket, good for `limits.TICKET_S` seconds; raise where too many are out."""
        now = self._clock()
        self._forget_old(now)
        if self._per_key[principal.key_id] >= PER_KEY:
            raise MillraceError("rate_limit_exceeded", "this key has too many unused tickets", retry_after_ms=1000)
        if len(self._out) >= CAPACITY:
            raise MillraceError("overloaded", "too many unused tickets are out", retry_after_ms=1000)
        ticket = secrets.token_urlsafe(32)
        self._out[_digest(ticket)] = _Ticket(principal, parse(origin), now + limits.TICKET_S)
        self._per_key[principal.key_id] += 1
        return ticket

    def redeem(self, ticket: str, origin: str) -> Principal:
        """Use a ticket up and return whose it is; raise `unauthorized`.

        It is used up also where it is refused: one that comes from another Origin, or late, has been seen by others.
        """
        found = self._take(_digest(ticket))
        good = found is not None and found.expires_at > self._clock() and found.origin == parse(origin) is not None
        if found is None or not good or not self._holds(found.principal.key_id):
            raise MillraceError("unauthorized", _REFUSED)
        return found.principal

    def _take(self, key: bytes) -> _Ticket | None:
        found = self._out.pop(key, None)
        if found is not None:
            owner = found.principal.key_id
            self._per_key[owner] -= 1
            if not self._per_key[owner]:
                del self._per_key[owner]
        return found

    def _forget_old(self, now: float) -> None:
        while self._out and (oldest := next(iter(self._out.items())))[1].expires_at <= now:
            self._take(oldest[0])


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()
