"""The replicas of a service that live, and which of them has a response."""

from typing import Protocol

PLACE = 8  # hexadecimal digits at the beginning of a response's id, and of the epoch of the process that has it


class Replicas(Protocol):
    """Which process has what. A process is known by the beginning of its epoch, its place."""

    place: str  # of this process

    def address_of(self, place: str) -> str | None:
        """Return the URL of another process, if it is known to live. No I/O."""
        ...

    async def find(self, place: str) -> str | None:
        """Return the same, and look for it where it is not known. None for this process."""
        ...


def place_of(response_id: str) -> str:
    """Return the place in an id; whatever is there, of an id that was made without one."""
    return response_id.removeprefix("resp_")[:PLACE]
