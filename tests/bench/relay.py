"""`python -m tests.bench.relay UPSTREAM_PORT`: the bare relay that Millrace is measured against.

Starlette, uvicorn's `websockets-sansio` and aiohttp, as most would write it: one frame a token, and nothing else.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one session of aiohttp."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


async def responses(websocket: WebSocket) -> None:
    """Relay the answers to one connection's requests, one after the other."""
    await websocket.accept()
    try:
        while True:
            await answer(websocket, orjson.loads(await websocket.receive_text()))
    except WebSocketDisconnect:
        return


async def answer(websocket: WebSocket, create: dict[str, str]) -> None:
    """Relay one answer."""
    app = websocket.app
    body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": create["input"]}]}
    number = 0
    async with app.state.session.post(app.state.url, json=body) as response:
        rest = b""
        async for data in response.content.iter_any():
            *events, rest = (rest + data).split(b"\n\n")
            for one in events:
                if one == b"data: [DONE]":
                    continue
                chunk = orjson.loads(one[6:])
                if chunk["choices"] and (text := chunk["choices"][0]["delta"].get("content")):
                    number += 1
                    await websocket.send_text(orjson.dumps(delta(text, number)).decode())
    await websocket.send_text(orjson.dumps({"type": "response.completed", "sequence_number": number + 1}).decode())


def delta(text: str, number: int) -> dict[str, object]:
    """Return the event of a token."""
    return {
        "type": "response.output_text.delta",
        "item_id": "msg_0123456789abcdef0123456789abcdef",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
        "logprobs": [],
        "sequence_number": number,
    }


async def main(upstream_port: str) -> None:
    """Serve until the process is ended."""
    app = Starlette(routes=[WebSocketRoute("/v1/responses", responses)], lifespan=lifespan)
    app.state.url = f"http://127.0.0.1:{upstream_port}/v1/chat/completions"
    config = uvicorn.Config(app, ws="websockets-sansio", ws_per_message_deflate=False, log_level="error", backlog=4096)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        await uvicorn.Server(config).serve([listening])


if __name__ == "__main__":
    import uvloop

    uvloop.install()
    asyncio.run(main(sys.argv[1]))
