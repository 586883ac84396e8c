"""Who may come in: decided from the head of a request alone, before anything is upgraded, read or run."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from millrace.access.keys import ANONYMOUS, Keyring
from millrace.access.tickets import Tickets
from millrace.errors import MillraceError
from millrace.origins import Origins, is_loopback
from millrace.principal import Principal

TICKET = "millrace.ticket."  # a subprotocol; it is never chosen, so it is never echoed
RETRY_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """What the gate looks at: every header of these names, as sent.

    Not the query, where a key would be logged by others; not the cookies, which a browser sends for any page that asks.
    """

    upgrade: bool  # a WebSocket is asked for
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    authorizations: tuple[str, ...] = ()
    subprotocols: tuple[str, ...] = ()


class Gate:
    """Admits or refuses. `draining` is set when the process is told to stop: no connection begins after that."""

    def __init__(self, keyring: Keyring, tickets: Tickets, origins: Origins, *, max_connections: int) -> None:
        self.draining = False
        self.keyring = keyring
        self.tickets = tickets
        self._origins = origins
        self._max_connections = max_connections
        self._connections: Counter[str] = Counter()  # by key

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._connections.total()

    def admit(self, head: RequestHead) -> Principal:
        """Return who asks; raise `server_draining`, `overloaded`, `forbidden` or `unauthorized`, in this order.

        A process that is full says so before it uses up a ticket.
        """
        if head.upgrade and self.draining:
            raise MillraceError("server_draining", "this server is stopping; connect again", retry_after_ms=RETRY_MS)
        if head.upgrade and self.connections >= self._max_connections:
            raise MillraceError("overloaded", "this server has all the connections it takes", retry_after_ms=RETRY_MS)
        self._check_origin(head)
        tickets = [name.removeprefix(TICKET) for name in head.subprotocols if name.startswith(TICKET)]
        if tickets and head.upgrade:
            return self._ticketed(tickets, head)
        return ANONYMOUS if self.keyring.is_open else self._authorized(head.authorizations)

    @contextmanager
    def connected(self, principal: Principal) -> Iterator[None]:
        """Count a connection while it is open; raise `rate_limit_exceeded` where its key has all it may."""
        key, limit = principal.key_id, principal.limits.connections
        if limit is not None and self._connections[key] >= limit:
            message = f"this key has {limit} connections, which is all it may have"
            raise MillraceError("rate_limit_exceeded", message, retry_after_ms=RETRY_MS)
        self._connections[key] += 1
        try:
            yield
        finally:
            self._connections[key] -= 1
            if not self._connections[key]:
                del self._connections[key]

    def ticket(self, principal: Principal, origin: str) -> str:
        """Return a ticket for a page of this origin; raise `forbidden` for a page that could not use it."""
        if not self._welcomes(origin):
            raise self._foreign(origin)
        return self.tickets.issue(principal, origin)

    def _check_origin(self, head: RequestHead) -> None:
        """Tell the pages that may ask from those that may not: a browser says which page it is that asks.

        While auth is off nothing else tells a user's own page from any page the user happens to visit; there the Host
        counts too, because a foreign name may have been made to resolve to this machine.
        """
        if self.keyring.is_open and not (len(head.hosts) == 1 and is_loopback(f"http://{head.hosts[0]}")):
            raise MillraceError("forbidden", "Host: without keys only this machine may ask; run `millrace keys add`")
        if len(head.origins) > 1 or not all(map(self._welcomes, head.origins)):
            raise self._foreign(", ".join(head.origins))

    def _welcomes(self, origin: str) -> bool:
        return origin in self._origins or (self.keyring.is_open and is_loopback(origin))

    def _foreign(self, origin: str) -> MillraceError:
        return MillraceError("forbidden", f"Origin: {origin[:80]!r} is not in [server] origins")

    def _ticketed(self, tickets: list[str], head: RequestHead) -> Principal:
        if len(tickets) > 1:
            raise MillraceError("unauthorized", "ticket: send one, beside millrace.v1")
        return self.tickets.redeem(tickets[0], head.origins[0] if head.origins else "")

    def _authorized(self, authorizations: tuple[str, ...]) -> Principal:
        if len(authorizations) != 1:
            raise MillraceError("unauthorized", 'Authorization: send one header, "Authorization: Bearer mr_..."')
        scheme, _, key = authorizations[0].partition(" ")
        if scheme.lower() != "bearer":
            raise MillraceError("unauthorized", 'Authorization: send it as "Bearer mr_..."')
        return self.keyring.owner(key.strip())
