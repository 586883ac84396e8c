"""A connection of a load test, which may die and be opened again."""

import asyncio

from millrace_client.client import Client


class Line:
    """One connection; opened again when it dies."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.losses = 0
        self._url = url
        self._api_key = api_key
        self._client: Client | None = None
        self._opening = asyncio.Lock()

    async def client(self) -> Client:
        """Return the client, connected as far as one can know."""
        async with self._opening:
            if self._client is None:
                self._client = await Client(self._url, api_key=self._api_key).__aenter__()
            return self._client

    async def lost(self, client: Client) -> None:
        """Forget a client whose connection has ended; each of its lanes may say so."""
        if client is self._client:
            self.losses += 1
            await self.close()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__(None, None, None)
