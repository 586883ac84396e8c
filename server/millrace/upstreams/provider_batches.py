"""Batches at a provider with OpenAI's batch API: the half of the price, and the answer within a day."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from millrace.errors import RULES, UpstreamError
from millrace.ports import BatchDisk, ProviderBatch
from millrace.types import Call
from millrace.upstreams.attempt import HttpUpstream

STREAM_FIELDS = ("stream", "stream_options")
NAME = "millrace"  # in the metadata of a provider's batch: which of ours it is of
PIECE = 2**20  # bytes
LOOKED_AT = 100  # latest batches, for one that was made just before a crash
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
NOT_NOW = (408, 409, 425, 429)  # that pass, as what is above 500 does
ENDED = ("completed", "failed", "expired", "cancelled")


class _Named(msgspec.Struct):
    id: str


class _Batch(msgspec.Struct):
    id: str
    status: str
    output_file_id: str | None = None
    metadata: dict[str, Any] | None = None


class _Batches(msgspec.Struct):
    data: list[_Batch] = []


class OpenAIBatches:
    """The batches of one model. It is `ports.ProviderBatches`."""

    def __init__(self, upstream: HttpUpstream, name: str) -> None:
        self.model = name
        self.address = upstream.endpoint.base_url
        self._upstream = upstream
        self._base_url = self.address.rstrip("/")
        self._path = urlsplit(upstream.api.url(self._base_url)).path
        key = upstream.endpoint.api_key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def line(self, call: Call, custom_id: str) -> bytes:
        """Return the line of a call."""
        quirks, _ = self._upstream.learned.quirks(self._upstream.clock())
        fields, _, _ = self._upstream.api.request(call, quirks)
        body = {name: value for name, value in fields.items() if name not in STREAM_FIELDS}
        line = {"custom_id": custom_id, "method": "POST", "url": self._path, "body": body}
        return msgspec.json.encode(line) + b"\n"

    async def find(self, name: str) -> str | None:
        """Return the batch of a name among the latest, if it has not failed."""
        latest = await self._asked("GET", f"/batches?limit={LOOKED_AT}", _Batches)
        for batch in latest.data:
            if (batch.metadata or {}).get(NAME) == name and batch.status not in ENDED[1:]:
                found: str = batch.id
                return found
        return None

    async def start(self, disk: BatchDisk, file_id: str, name: str) -> str:
        """Have a file run, unless that was begun before."""
        if (found := await self.find(name)) is not None:
            return found
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", _bytes_of(disk, file_id), filename=f"{name}.jsonl", content_type="application/jsonl")
        file = await self._asked("POST", "/files", _Named, data=form)
        body = {
            "input_file_id": file.id,
            "endpoint": self._path,
            "completion_window": "24h",
            "metadata": {NAME: name},
        }
        made: _Named = await self._asked("POST", "/batches", _Named, json=body)
        return made.id

    async def look(self, batch_id: str) -> ProviderBatch:
        """Return how a batch stands."""
        found = await self._asked("GET", f"/batches/{batch_id}", _Batch)
        return ProviderBatch(id=found.id, has_ended=found.status in ENDED, output_file_id=found.output_file_id)

    async def bring(self, output_file_id: str, disk: BatchDisk, file_id: str) -> None:
        """Bring the answers of a batch; what came of them before is replaced."""
        await disk.remove([file_id])
        try:
            path = f"/files/{output_file_id}/content"
            async with self._session() as http, http.get(self._base_url + path) as answer:
                if answer.status != HTTPStatus.OK:
                    raise self._refused(answer.status)
                async for piece in answer.content.iter_chunked(PIECE):
                    await disk.append(file_id, piece)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._broken(error) from error

    async def cancel(self, batch_id: str) -> None:
        """Have the provider run no more of a batch."""
        await self._asked("POST", f"/batches/{batch_id}/cancel", _Batch)

    async def _asked(self, method: str, path: str, shape: type[Any], **fields: Any) -> Any:
        try:
            async with self._session() as http, http.request(method, self._base_url + path, **fields) as answer:
                body = await answer.read()
                if answer.status != HTTPStatus.OK:
                    raise self._refused(answer.status)
                return msgspec.json.decode(body, type=shape)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            raise self._broken(error) from error

    def _session(self) -> aiohttp.ClientSession:
        """Return connections for one question: the next one comes in a minute, or never."""
        return aiohttp.ClientSession(headers=self._headers, timeout=TIMEOUT, trust_env=True)

    def _refused(self, status: int) -> UpstreamError:
        passes = status in NOT_NOW or (
            status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED
        )
        rule = RULES["upstream_error"]._replace(retry=passes)
        return UpstreamError("upstream_error", f"the batch API of {self.model} answers with HTTP {status}", rule=rule)

    def _broken(self, error: Exception) -> UpstreamError:
        return UpstreamError("upstream_error", f"the batch API of {self.model} does not answer: {type(error).__name__}")


async def _bytes_of(disk: BatchDisk, file_id: str) -> AsyncIterator[bytes]:
    at = 0
    while piece := await disk.read(file_id, at, PIECE):
        yield piece
        at += len(piece)
