"""A client of one simulator."""

import json
from typing import Any

import aiohttp

from millrace.simulator import Simulator

NOW = "ttft=0; rate=0"


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0.5},
        "height": {"type": "number"},
        "alive": {"type": "boolean"},
        "kind": {"enum": ["river", "lake"]},
        "version": {"const": 3},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"properties": {"town": {"type": ["string", "null"]}}, "required": ["town"]},
        "optional": {"type": "string"},
    },
    "required": ["name", "age", "height", "alive", "kind", "version", "tags", "place"],
    "additionalProperties": False,
}


class Client:
    """A caller of one simulator."""

    def __init__(self, session: aiohttp.ClientSession, simulator: Simulator) -> None:
        self.session = session
        self.simulator = simulator

    async def post(self, body: Any, simulate: str = NOW) -> tuple[int, bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{self.simulator.base_url}/chat/completions"
        async with self.session.post(url, data=data, headers={"X-Simulate": simulate}) as response:
            return response.status, await response.read()

    async def whole(self, prompt: str, simulate: str = NOW, **fields: Any) -> dict[str, Any]:
        """The completion document for a prompt."""
        messages = [{"role": "user", "content": prompt}]
        status, raw = await self.post({"messages": messages, **fields}, simulate)
        assert status == 200, raw
        completion: dict[str, Any] = json.loads(raw)
        return completion

    async def text(self, prompt: str, simulate: str = NOW, **fields: Any) -> str:
        completion = await self.whole(prompt, simulate, **fields)
        return str(completion["choices"][0]["message"]["content"])

    async def chunks(self, prompt: str, simulate: str = NOW, **fields: Any) -> list[dict[str, Any]]:
        """The chunks of a stream that must end with `[DONE]`."""
        body = {"messages": [{"role": "user", "content": prompt}], "stream": True, **fields}
        status, raw = await self.post(body, simulate)
        assert status == 200, raw
        *events, done, rest = raw.decode().split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]

    async def error(self, body: Any, simulate: str = NOW) -> dict[str, Any]:
        """The error object of a request that is refused with a 400."""
        status, raw = await self.post(body, simulate)
        assert status == 400, raw
        error: dict[str, Any] = json.loads(raw)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error
