"""The published contract of the WebSockets, generated from the wire structs: AsyncAPI."""

from collections.abc import Iterable
from typing import get_args

from msgspec import Struct

from millrace.wire import responses as wire, ui_chunks, ui_messages
from millrace.wire.contracts import ABOUT, JSON, RECEIVED, SENT, Schema, ref, schemas_of, summary, tag

CHAT_SENT: tuple[type[Struct], ...] = get_args(ui_chunks.ServerFrame)
CHAT_RECEIVED: tuple[type[Struct], ...] = get_args(ui_messages.ClientFrame)

_QUERY = {
    "type": "object",
    "properties": {"millrace": {"const": "1", "description": "Negotiates the millrace.* events."}},
}
_HEADERS = {
    "type": "object",
    "properties": {
        "Authorization": {"type": "string", "description": "Bearer and a key. Not needed while no key exists."},
        "Sec-WebSocket-Protocol": {
            "type": "string",
            "description": f"{wire.SUBPROTOCOL} negotiates the millrace.* events. A browser adds its ticket as"
            " millrace.ticket.<ticket>.",
        },
    },
}


def document(version: str) -> Schema:
    """Return the AsyncAPI 3.0 document. It describes the server, so `send` means server to client."""
    names, components = schemas_of((*SENT, *CHAT_SENT), (*RECEIVED, *CHAT_RECEIVED))
    messages = {
        name_of(shape): {
            "name": tag(shape),
            "summary": summary(shape),
            "contentType": JSON,
            "payload": ref(names[shape]),
        }
        for shape in (*SENT, *RECEIVED, *CHAT_SENT, *CHAT_RECEIVED)
    }
    responses = _channel(
        "/v1/responses",
        "Each text frame is one event, UTF-8 JSON. Requests of one `stream_id` run one after another.",
        (*SENT, *RECEIVED),
        {"method": "GET", "query": _QUERY, "headers": _HEADERS},
    )
    chats = _channel(
        "/v1/chat/ws",
        "The WebSocketChatTransport of the AI SDK: each text frame belongs to the request of its `requestId`.",
        (*CHAT_SENT, *CHAT_RECEIVED),
        {"method": "GET", "headers": _HEADERS},
    )
    return {
        "asyncapi": "3.0.0",
        "info": {**ABOUT, "version": version, "license": {"name": "MIT"}},
        "defaultContentType": JSON,
        "channels": {"responses": responses, "chats": chats},
        "operations": {
            "events": _operation("send", "responses", SENT),
            "frames": _operation("receive", "responses", RECEIVED),
            "chunks": _operation("send", "chats", CHAT_SENT),
            "messages": _operation("receive", "chats", CHAT_RECEIVED),
        },
        "components": {"messages": messages, "schemas": components},
    }


def name_of(shape: type[Struct]) -> str:
    """Return the name of a frame in the document."""
    return f"chat.{tag(shape)}" if shape in (*CHAT_SENT, *CHAT_RECEIVED) else tag(shape)


def _channel(address: str, description: str, shapes: Iterable[type[Struct]], binding: Schema) -> Schema:
    return {
        "address": address,
        "description": description,
        "messages": {name_of(shape): {"$ref": f"#/components/messages/{name_of(shape)}"} for shape in shapes},
        "bindings": {"ws": {**binding, "bindingVersion": "0.1.0"}},
    }


def _operation(action: str, channel: str, shapes: Iterable[type[Struct]]) -> Schema:
    messages = [{"$ref": f"#/channels/{channel}/messages/{name_of(shape)}"} for shape in shapes]
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "messages": messages}
