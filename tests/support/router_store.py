"""What a router has learned, kept in memory."""

from collections.abc import Iterable

from millrace.types import KeptState, StateVersion


class MemoryRouterStore:
    """Keeps the newest state of each tenant. It is `ports.RouterStore`."""

    def __init__(self) -> None:
        self.states: dict[str, KeptState] = {}
        self.promises: bytes | None = None
        self.frozen_tenants: frozenset[str] = frozenset()

    async def load(self, tenant: str) -> KeptState | None:
        return self.states.get(tenant)

    async def save(
        self, tenant: str, state: bytes, labels: int, after: StateVersion | None, *, anew: bool = False
    ) -> StateVersion | None:
        newest = self.states.get(tenant)
        if (None if newest is None else newest.version) != after:
            return None
        version = StateVersion(1, 0) if after is None else StateVersion(after.number + anew, after.revision + 1)
        self.states[tenant] = KeptState(tenant=tenant, version=version, saved_at=0.0, labels=labels, state=state)
        return version

    async def versions(self, tenants: Iterable[str]) -> dict[str, StateVersion]:
        return {tenant: self.states[tenant].version for tenant in tenants if tenant in self.states}

    async def frozen(self) -> frozenset[str]:
        return self.frozen_tenants

    async def load_promises(self) -> bytes | None:
        return self.promises

    async def save_promises(self, state: bytes) -> None:
        self.promises = state
