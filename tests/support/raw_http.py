"""Requests written by hand: the heads that go out before a client exists."""

import json
from typing import Any

UPGRADE = (
    "GET /v1/responses HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def post_request(path: str, **fields: Any) -> str:
    """Return a whole POST."""
    body = json.dumps({"model": "small", "stream": True} | fields).replace("{", "{{").replace("}", "}}")
    length = len(body.replace("{{", "{").replace("}}", "}"))
    return f"POST /v1/{path} HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {length}\r\n\r\n{body}"
