"""A client of a load test that connects again after its connection was lost."""

import asyncio

from millrace_client.client import Client


class ReconnectingClient:
    """One connection to the server; opened on demand, and again after it was lost."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.losses = 0
        self._url = url
        self._api_key = api_key
        self._client: Client | None = None
        self._opening = asyncio.Lock()

    async def client(self) -> Client:
        """Return the client; connect if there is none."""
        async with self._opening:
            if self._client is None:
                self._client = await Client(self._url, api_key=self._api_key).__aenter__()
            return self._client

    async def discard(self, client: Client) -> None:
        """Drop a client whose connection was lost. Each of its lanes may call this; only the first call counts."""
        if client is self._client:
            self.losses += 1
            await self.close()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__(None, None, None)
