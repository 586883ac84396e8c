"""The Python client of Millrace: many concurrent requests on one WebSocket, streamed, revised, cancelled.

    async with Client("ws://127.0.0.1:8000") as client:
        async for event in client.stream("What is a millrace?"):
            ...
        reply = await client.ask("And a mill pond?")

`SyncClient` is the same without `async`.
"""

from millrace.errors import MillraceError
from millrace_client.client import Client
from millrace_client.stream import ConnectionLostError, Reply, Stream, ToolCall
from millrace_client.sync import SyncClient, SyncStream

__all__ = ["Client", "ConnectionLostError", "MillraceError", "Reply", "Stream", "SyncClient", "SyncStream", "ToolCall"]
