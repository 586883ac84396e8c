"""The replicas of a service that live, and which of them has a response."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

PLACE = 8  # hexadecimal digits at the beginning of a response's id, and of the epoch of the process that has it


class Worker(Struct, frozen=True, kw_only=True):
    """A process that serves one port and one data_dir together with others, which a supervisor has started."""

    folder: str  # where each of them says at which address the others reach it
    number: int  # which no other one has had
    count: int  # how many the supervisor keeps alive; each has this share of the limits
    address: str  # the URL at which the others reach this one
    strangers: frozenset[str] = frozenset()  # epochs of processes on the data_dir that lived before all of them


class Replicas(Protocol):
    """Which process has what. A process is known by the beginning of its epoch, its place."""

    place: str  # of this process

    @property
    def others(self) -> list[str]:
        """The URLs of the others that serve, as far as they are known."""
        ...

    def where(self, place: str) -> str | None:
        """Return where a client finds what that process has, in words; None if it is not known to live. No I/O."""
        ...

    async def find(self, place: str) -> str | None:
        """Return the URL of another process, and look for it where it is not known.

        None for this one, and for one that is gone. Raises `LookupError` where that cannot be known now.
        """
        ...


class Peers(Replicas, Protocol):
    """The other replicas of the service, who share a Redis."""

    @property
    def is_away(self) -> bool:
        """Whether Redis did not answer when it was last asked."""
        ...


class Taken(Struct, frozen=True):
    """A request with an idempotency key that another replica has taken."""

    response_id: str
    digest: bytes  # of its body


class Repeats(Protocol):
    """Which replica has taken which request that has an idempotency key."""

    async def take(self, name: tuple[str, ...], digest: bytes, response_id: str) -> Taken | None:
        """Take a request, unless another replica that lives has it. None: it is this one's, or that cannot be known."""
        ...


class Siblings(Replicas, Protocol):
    """The other workers of the server."""

    count: int  # that are to live, with this one

    async def first(self) -> str | None:
        """Return the URL of the one that does what must be done once; None for this one.

        Raises `LookupError` while another one takes over.
        """
        ...

    async def announce(self) -> None:
        """Say that this one serves."""
        ...

    async def left(self) -> list[bytes]:
        """Return what workers that are gone have counted, as they have told it last."""
        ...


class Store(Protocol):
    """A server of what replicas share."""

    @property
    def is_away(self) -> bool:
        """Whether it did not answer when it was last asked."""
        ...


class Spooled(Protocol):
    """The rows of the ledger that wait for PostgreSQL, on the disk."""

    max_bytes: int  # that they may take; beyond it no new requests are taken

    @property
    def rows(self) -> int:
        """How many wait."""
        ...

    @property
    def bytes(self) -> int:
        """What they take, about."""
        ...

    @property
    def oldest_s(self) -> float:
        """For how many seconds the first of them has waited; 0 if none waits."""
        ...


class Stores(Struct, frozen=True, kw_only=True):
    """What replicas share their state through, as one of them sees it."""

    by_name: Mapping[str, Store]  # `redis`, `postgres`: those that are configured
    spooled: Spooled | None = None  # None: no PostgreSQL is configured


NO_STORES = Stores(by_name={})


def place_of(response_id: str) -> str:
    """Return the place in an id; whatever is there, of an id that was made without one."""
    return response_id.removeprefix("resp_")[:PLACE]
