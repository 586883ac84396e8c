"""Keys of all replicas: PostgreSQL has the truth, and the SQLite of each replica a copy of it, to go on without it."""

import sqlite3

from millrace import log
from millrace.principal import Key
from millrace.stores.keys import StoredKeys


class SharedKeys:
    """A `ports.KeyStore`. Changes go to PostgreSQL, and fail while it is away.

    Keys that a data_dir had before it had PostgreSQL are put there at the first look.
    """

    def __init__(self, shared: StoredKeys, copy: StoredKeys) -> None:
        self._shared = shared
        self._copy = copy
        self._taken: list[Key] | None = None  # that PostgreSQL had when it was last copied

    async def load(self) -> list[Key]:
        """Return the keys of PostgreSQL; while it is away, those that it had last.

        Raises `TimeoutError` if it is away and nothing is known of its keys.
        """
        try:
            found = await self._look()
        except TimeoutError as error:
            known = await self._copy.load()
            if not known:
                raise TimeoutError(f"which keys there are is not known: {error}") from error
            return known
        if found is not self._taken:
            await self._keep(found)
        return found

    async def add(self, key: Key) -> None:
        """Insert a new key."""
        await self._shared.add(key)

    async def revoke(self, key_id: str, at: float) -> bool:
        """Mark a key as revoked at Unix seconds `at`; False if there is no such key or it is revoked already."""
        return await self._shared.revoke(key_id, at)

    async def rotate(self, key_id: str, digest: bytes, until: float) -> bool:
        """Give a key another secret, by its hash; the present one is refused from Unix seconds `until` on."""
        return await self._shared.rotate(key_id, digest, until)

    async def _look(self) -> list[Key]:
        if self._taken is None:
            own = await self._copy.load()
            if own:
                await self._shared.put_new(own)
        return await self._shared.load()

    async def _keep(self, found: list[Key]) -> None:
        """Copy what PostgreSQL has. Who asks does not fail with it: the copy is made at the next look."""
        try:
            await self._copy.put(found)
            self._taken = found
        except (sqlite3.Error, TimeoutError) as error:
            log.get().warning("the keys of PostgreSQL were not copied to the disk", error=str(error))
