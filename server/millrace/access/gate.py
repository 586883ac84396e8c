"""Admits or refuses a request by its head alone, before anything is upgraded, read or run."""

from collections import Counter

from msgspec import Struct

from millrace.access.keys import ANONYMOUS, Keyring
from millrace.access.origins import Origins, is_loopback
from millrace.access.tickets import Fetched, Tickets
from millrace.errors import MillraceError
from millrace.memory import Shares
from millrace.principal import Principal

TICKET = "millrace.ticket."  # prefix of a subprotocol; it is never selected, so never echoed
RETRY_MS = 1000


class RequestHead(Struct, frozen=True, kw_only=True):
    """What the gate reads: every header of these names, as sent.

    The query is left out because proxies log it. Cookies are left out because a browser sends them for any page.
    """

    upgrade: bool  # the request asks for a WebSocket
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    authorizations: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()  # of `x-api-key`, which counts where there is no `authorization`
    subprotocols: tuple[str, ...] = ()


class Gate:
    """Admits or refuses requests. Once `draining` is set, no new WebSocket is admitted."""

    def __init__(
        self, keyring: Keyring, tickets: Tickets, origins: Origins, *, max_connections: int, share_of: int = 1
    ) -> None:
        """Of `share_of` workers, each admits its share of the connections of a key."""
        self.draining = False
        self.keyring = keyring
        self.tickets = tickets
        self.origins = origins  # may change at any time
        self._max_connections = max_connections
        self._share_of = share_of
        self._connections: Counter[str] = Counter()  # open ones by key id
        self._places = Shares(lambda: self._max_connections - self.connections, lambda: keyring.are_many)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._connections.total()

    async def fetch(self, head: RequestHead) -> Fetched | None:
        """Take the ticket of a request from where all replicas have theirs, just before it is admitted.

        None if there is no need to, or if it cannot be known.
        """
        tickets = _tickets_of(head)
        if len(tickets) != 1 or not head.upgrade or self.draining or self.connections >= self._max_connections:
            return None
        try:
            self._check_origin(head)
        except MillraceError:
            return None
        return await self.tickets.fetch(tickets[0])

    def admit(self, head: RequestHead, fetched: Fetched | None = None) -> Principal:
        """Return the principal of a request. `fetched` is what was found of its ticket.

        Raises `server_draining`, `overloaded`, `forbidden` or `unauthorized`, checked in this order: a server that
        is full must not use up a ticket.
        """
        if head.upgrade and self.draining:
            raise MillraceError(
                "server_draining", "the server is shutting down; connect again", retry_after_ms=RETRY_MS
            )
        if head.upgrade and self.connections >= self._max_connections:
            raise _full()
        self._check_origin(head)
        tickets = _tickets_of(head)
        if tickets and head.upgrade:
            return self._by_ticket(tickets, head, fetched)
        return ANONYMOUS if self.keyring.auth_is_off else self._by_key(head)

    def connect(self, principal: Principal) -> None:
        """Count a connection, until `disconnect`.

        Raises `rate_limit_exceeded` if its key has too many, `overloaded` if its tenant has.
        """
        key, limit = principal.key_id, principal.limits.shared(self._share_of).connections
        if limit is not None and self._connections[key] >= limit:
            message = f"this key may have {limit} connections at once; close one and connect again"
            raise MillraceError("rate_limit_exceeded", message, retry_after_ms=RETRY_MS)
        if self._places.lack(principal.tenant, 1) > 0:
            raise _full()
        self._connections[key] += 1
        self._places.count(principal.tenant, 1)

    def disconnect(self, principal: Principal) -> None:
        """Count a connection no more."""
        key = principal.key_id
        self._places.count(principal.tenant, -1)
        self._connections[key] -= 1
        if not self._connections[key]:
            del self._connections[key]

    def ticket(self, principal: Principal, origin: str) -> str:
        """Return a ticket for pages of this origin. Raises `forbidden` if such a page may not connect."""
        if not self._is_allowed(origin):
            raise self._forbidden(origin)
        return self.tickets.issue(principal, origin)

    def _check_origin(self, head: RequestHead) -> None:
        """Raise `forbidden` for pages that may not connect. A browser names the page's origin in `Origin`.

        While auth is off, nothing else separates the user's own pages from other pages that the user visits. `Host`
        is checked too then: DNS rebinding can make a foreign name resolve to this machine, and `Host` holds that name.
        """
        if self.keyring.auth_is_off and not (len(head.hosts) == 1 and is_loopback(f"http://{head.hosts[0]}")):
            raise MillraceError("forbidden", "Host: without keys only this machine can ask; run `millrace keys add`")
        if len(head.origins) > 1 or not all(map(self._is_allowed, head.origins)):
            raise self._forbidden(", ".join(head.origins))

    def _is_allowed(self, origin: str) -> bool:
        return origin in self.origins or (self.keyring.auth_is_off and is_loopback(origin))

    def _forbidden(self, origin: str) -> MillraceError:
        rule = "is not in [server] origins; with keys, each page that may ask is listed there, the server's own too"
        return MillraceError("forbidden", f"Origin: {origin[:80]!r} {rule}")

    def _by_ticket(self, tickets: list[str], head: RequestHead, fetched: Fetched | None) -> Principal:
        if len(tickets) > 1:
            raise MillraceError("unauthorized", "ticket: send only one, together with millrace.v1")
        return self.tickets.redeem(tickets[0], head.origins[0] if head.origins else "", fetched)

    def _by_key(self, head: RequestHead) -> Principal:
        if not head.authorizations and len(head.api_keys) == 1:
            return self.keyring.owner(head.api_keys[0].strip())
        if len(head.authorizations) != 1:
            message = 'Authorization: send one header, "Authorization: Bearer mr_...", or else "x-api-key: mr_..."'
            raise MillraceError("unauthorized", message)
        scheme, _, key = head.authorizations[0].partition(" ")
        if scheme.lower() != "bearer":
            raise MillraceError("unauthorized", 'Authorization: send it as "Bearer mr_..."')
        return self.keyring.owner(key.strip())


def _tickets_of(head: RequestHead) -> list[str]:
    return [name.removeprefix(TICKET) for name in head.subprotocols if name.startswith(TICKET)]


def _full() -> MillraceError:
    return MillraceError("overloaded", "the server is full; connect again later", retry_after_ms=RETRY_MS)
