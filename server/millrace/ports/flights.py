"""Flights of several replicas: who leads the one for an answer that is on its way, and how the others follow it."""

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from msgspec import Struct

from millrace.types import StoredAnswer


class Lease(Struct, frozen=True):
    """That one replica leads a flight. Whoever knows the token may follow it: only replicas do."""

    flight: bytes  # its name
    place: str  # of the replica (`ports.replicas`)
    token: str  # 128 random bits
    address: str  # the URL at which other replicas reach it


class Leases(Protocol):
    """Who leads which flight. A lease ends by itself some seconds after its holder has died."""

    place: str  # of this process

    async def find_or_lead(self, key: bytes, flight: bytes) -> StoredAnswer | Lease | None:
        """Return a stored answer, or else who leads its flight: this process from now on, if nobody did.

        None if neither can be known now.
        """
        ...

    def keep(self, lease: Lease) -> None:
        """Hold a lease of this process until it is released."""
        ...

    def release(self, lease: Lease) -> None:
        """Hold a lease no longer, once what was stored before is where others find it. Never waits."""
        ...

    def take_over(self, lease: Lease) -> Lease:
        """Return a lease of this process in place of one whose holder is gone. Never waits; another may be faster."""
        ...


class LeaderGoneError(OSError):
    """A replica that leads a flight is gone, does not lead it, or did not answer in time."""


# Asks the replica that leads a flight, with a body, for the lines of its log. They raise `LeaderGoneError`.
FollowLog = Callable[[Lease, bytes], AsyncGenerator[bytes]]
