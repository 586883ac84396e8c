"""Files and batches of a simulated provider: it asks itself for each line, and waits as long as it is told."""

import asyncio
import time
from itertools import count
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from msgspec import Struct, field

AT_ONCE = 32  # lines of a batch
ENDS = {"in_progress": "completed", "cancelling": "cancelled"}  # once all lines that run have ended


class _Batch(Struct):
    id: str
    input_file_id: str
    endpoint: str
    metadata: dict[str, Any]
    status: str = "in_progress"
    output_file_id: str | None = None
    total: int = 0
    completed: int = 0
    created_at: int = field(default_factory=lambda: int(time.time()))
    answers: list[bytes] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        counts = {"total": self.total, "completed": self.completed, "failed": 0}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": None,
            "created_at": self.created_at,
            "request_counts": counts,
            "metadata": self.metadata,
        }


class BatchDesk:
    """Takes files and batches of one simulator, which is at `url` (without its path)."""

    def __init__(self) -> None:
        self.url = ""
        self.delay_s = 0.0  # before a batch is begun
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, _Batch] = {}
        self._numbers = count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def add_routes(self, app: web.Application) -> None:
        """Serve the endpoints."""
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._show)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)
        app.on_shutdown.append(self._stop)

    async def _upload(self, request: web.Request) -> web.Response:
        form, content = await request.multipart(), b""
        while (part := await form.next()) is not None:
            if isinstance(part, aiohttp.BodyPartReader) and part.name == "file":
                content = bytes(await part.read())
        return web.json_response({"id": self._keep(content), "object": "file", "bytes": len(content)})

    def _keep(self, content: bytes) -> str:
        file_id = f"file-simulated-{next(self._numbers)}"
        self.files[file_id] = content
        return file_id

    async def _content(self, request: web.Request) -> web.Response:
        content = self.files.get(request.match_info["id"])
        return web.Response(status=404) if content is None else web.Response(body=content)

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("input_file_id") not in self.files:
            return web.json_response(
                {"error": {"message": "no such file", "type": "invalid_request_error"}}, status=404
            )
        made = _Batch(
            f"batch_simulated_{next(self._numbers)}",
            body["input_file_id"],
            body["endpoint"],
            body.get("metadata") or {},
        )
        self.batches[made.id] = made
        task = asyncio.get_running_loop().create_task(self._run(made))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.json_response(made.body())

    async def _run(self, batch: _Batch) -> None:
        lines = [orjson.loads(line) for line in self.files[batch.input_file_id].splitlines() if line.strip()]
        batch.total, turns = len(lines), asyncio.Semaphore(AT_ONCE)
        await asyncio.sleep(self.delay_s)
        async with aiohttp.ClientSession() as http:

            async def answer(line: dict[str, Any]) -> None:
                async with turns:
                    if batch.status != "in_progress":
                        return
                    async with http.post(self.url + line["url"], json=line["body"]) as answer:
                        response = {"status_code": answer.status, "request_id": "sim", "body": await answer.json()}
                row = {"id": "sim", "custom_id": line["custom_id"], "response": response, "error": None}
                batch.answers.append(orjson.dumps(row))
                batch.completed += 1

            await asyncio.gather(*map(answer, lines))
        if batch.status in ENDS:
            batch.output_file_id = self._keep(b"\n".join(batch.answers)) if batch.answers else None
            batch.status = ENDS[batch.status]

    async def _list(self, _request: web.Request) -> web.Response:
        found = [batch.body() for batch in reversed(self.batches.values())]
        return web.json_response({"object": "list", "data": found, "has_more": False})

    async def _show(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        return web.Response(status=404) if batch is None else web.json_response(batch.body())

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.Response(status=404)
        if batch.status == "in_progress":
            batch.status = "cancelling"
        return web.json_response(batch.body())

    async def _stop(self, _app: web.Application) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
