"""A model behind chat completions that calls the tools which it is told to, of those that it is offered."""

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from millrace.simulator.instances import minimal

RAW = 'plain text, no JSON:\n\t"quoted" \\ and more é 🎡'  # for custom tools
TEXT = "Done."


class AgentModel:
    """Answers each request with the next calls it was told to make, or with words where there are none."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.next: deque[list[str]] = deque()  # of each answer the kinds of tools to call: function or custom
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        wanted = self.next.popleft() if self.next else []
        form = (body.get("response_format") or {}).get("json_schema")
        words = TEXT if form is None else json.dumps(minimal(form["schema"]))
        deltas: list[dict[str, Any]] = [{"content": words}] if not wanted else []
        for index, kind in enumerate(wanted):
            functions = (tool["function"] for tool in body["tools"])
            function = next(one for one in functions if _is_custom(one) == (kind == "custom"))
            arguments = {"input": RAW} if kind == "custom" else minimal(function.get("parameters") or {})
            text = json.dumps(arguments)
            opening = {"index": index, "id": f"call_{len(self.bodies)}_{index}", "type": "function"}
            deltas.append({"tool_calls": [opening | {"function": {"name": function["name"], "arguments": ""}}]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": text[at : at + 5]}}]}
                for at in range(0, len(text), 5)
            ]
        finish = "tool_calls" if wanted else "stop"
        chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        chunks.append({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}})
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        for chunk in chunks:
            await stream.write(b"data: %b\n\n" % json.dumps(chunk).encode())
        await stream.write(b"data: [DONE]\n\n")
        return stream


@asynccontextmanager
async def agent_model() -> AsyncIterator[AgentModel]:
    """Run one on a free port."""
    model = AgentModel()
    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/chat/completions", model.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield model
    finally:
        await runner.cleanup()


def _is_custom(function: dict[str, Any]) -> bool:
    """Whether it stands for a custom tool: it takes one text, and nothing else."""
    parameters: dict[str, Any] = function.get("parameters") or {}
    return set(parameters.get("properties", {})) == {"input"}
