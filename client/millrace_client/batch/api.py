"""What the commands ask of a server's files and batches, over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from millrace.errors import MillraceError, rule_of
from millrace.wire.batches import BatchObject, BatchObjects, FileObject
from millrace.wire.documents import Refused

T = TypeVar("T")

PIECE = 256 * 1024  # bytes
CONNECT_S, READ_S = 10.0, 120.0
MOST = 100  # batches of a page


class BatchApi:
    """The files and batches of one server."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.replace("ws", "http", 1).rstrip("/") if url.startswith("ws") else url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
        self._http = aiohttp.ClientSession(headers=headers, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.close()

    async def upload(self, name: str, size: int, pieces: AsyncIterator[bytes]) -> FileObject:
        """Upload a file of so many bytes. Raises `MillraceError`, `aiohttp.ClientError`."""
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", _Sized(pieces, size), filename=name, content_type="application/jsonl")
        return await self._asked("POST", "/v1/files", FileObject, data=form)

    async def create(self, file_id: str, endpoint: str, metadata: dict[str, str]) -> BatchObject:
        """Start a batch."""
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", "metadata": metadata}
        return await self._asked("POST", "/v1/batches", BatchObject, json=body)

    async def batch(self, batch_id: str) -> BatchObject:
        """Return a batch as it stands."""
        return await self._asked("GET", f"/v1/batches/{batch_id}", BatchObject)

    async def cancel(self, batch_id: str) -> BatchObject:
        """Cancel a batch."""
        return await self._asked("POST", f"/v1/batches/{batch_id}/cancel", BatchObject)

    async def batches(self, most: int | None = None) -> AsyncIterator[BatchObject]:
        """Yield batches, the newest first; not more than so many."""
        after: dict[str, str] = {}
        while True:
            limit = MOST if most is None else min(MOST, most)
            page = await self._asked("GET", "/v1/batches", BatchObjects, params={"limit": str(limit), **after})
            for batch in page.data:
                yield batch
            most = None if most is None else most - len(page.data)
            if not page.has_more or page.last_id is None or most == 0:
                return
            after = {"after": page.last_id}

    async def file(self, file_id: str) -> FileObject:
        """Return what is known of a file."""
        return await self._asked("GET", f"/v1/files/{file_id}", FileObject)

    async def content(self, file_id: str) -> AsyncIterator[bytes]:
        """Yield the bytes of a file."""
        async with self._http.get(f"{self.url}/v1/files/{file_id}/content") as answer:
            if answer.status != 200:  # noqa: PLR2004 - OK
                raise _refused(answer.status, await answer.read())
            async for piece in answer.content.iter_chunked(PIECE):
                yield piece

    async def _asked(self, method: str, path: str, shape: type[T], **fields: Any) -> T:
        async with self._http.request(method, self.url + path, **fields) as answer:
            body = await answer.read()
            if answer.status != 200:  # noqa: PLR2004 - OK
                raise _refused(answer.status, body)
            try:
                return msgspec.json.decode(body, type=shape)
            except msgspec.DecodeError as error:
                raise MillraceError("upstream_error", f"{self.url} is no Millrace: {error}") from None


class _Sized(aiohttp.payload.AsyncIterablePayload):
    """Pieces of a body whose length is known, so that the server can refuse what is too long at once."""

    def __init__(self, pieces: AsyncIterator[bytes], size: int) -> None:
        super().__init__(pieces)
        self._size = size


async def off_the_loop(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield pieces that come from a disk."""
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def _refused(status: int, body: bytes) -> MillraceError:
    try:
        error = msgspec.json.decode(body, type=Refused).error
    except msgspec.DecodeError:
        return MillraceError("upstream_error", f"the server answers with status {status}")
    return MillraceError(error.code, error.message, param=error.param, rule=rule_of(error.code, error.type))
