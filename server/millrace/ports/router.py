"""What keeps the router's state."""

from collections.abc import Iterable
from typing import Protocol

from millrace.types import KeptState, StateVersion


class RouterStore(Protocol):
    """Keeps what the router has learned of each tenant, and whose learning is frozen. Others may change both."""

    async def load(self, tenant: str) -> KeptState | None:
        """Return the newest state of a tenant; None if there is none. Raises `TimeoutError`."""
        ...

    async def save(
        self, tenant: str, state: bytes, labels: int, after: StateVersion | None, *, anew: bool = False
    ) -> StateVersion | None:
        """Keep a state that comes after one version; `anew`: beside it, not in its place.

        Returns its own version. None, and nothing is kept, if another one is the newest by now. Raises `TimeoutError`.
        """
        ...

    async def versions(self, tenants: Iterable[str]) -> dict[str, StateVersion]:
        """Return the newest versions that are kept of these tenants. Raises `TimeoutError`."""
        ...

    async def frozen(self) -> frozenset[str]:
        """Return the tenants who learn nothing; the empty name stands for all. Raises `TimeoutError`."""
        ...

    async def load_promises(self) -> bytes | None:
        """Return how the promises are kept; None if nothing is known, empty if it is damaged. Raises `TimeoutError`."""
        ...

    async def save_promises(self, state: bytes) -> None:
        """Keep how the promises are kept. Raises `TimeoutError`."""
        ...
