"""A server that several tenants share, each with a key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Limits, Role
from tests.support.raw_http import UPGRADE
from tests.support.server import Running, Start


@dataclass(frozen=True, slots=True)
class Shared:
    """A server that runs, and the key of each tenant."""

    running: Running
    keys: dict[str, str]

    def header(self, tenant: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[tenant]}"}

    def upgrade(self, tenant: str) -> str:
        """Return the head of a WebSocket, for `slow_client`."""
        return UPGRADE.replace("\r\n\r\n", f"\r\nAuthorization: Bearer {self.keys[tenant]}\r\n\r\n")


@asynccontextmanager
async def shared_server(
    start: Start, folder: Path, *tenants: str, limits: Limits | None = None, **server: Any
) -> AsyncIterator[Shared]:
    """Start a server; `server` goes into its [server]."""
    made = {
        tenant: keys.make(tenant=tenant, role=Role.USE, limits=limits or Limits(), created_at=1.0) for tenant in tenants
    }
    async with key_store(str(folder)) as store:
        for key, _ in made.values():
            await store.add(key)

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"data_dir": str(folder), **server}

    async with start(change) as running:
        yield Shared(running, {tenant: text for tenant, (_, text) in made.items()})
