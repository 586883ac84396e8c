"""The dashboard in the published contracts: its endpoints, and the frames of its WebSocket."""

from collections.abc import Sequence

from msgspec import Struct

from millrace.wire import dashboard as wire
from millrace.wire.operation import Operation, Schema

FEED_SENT: tuple[type[Struct], ...] = (wire.Hello, wire.FiguresFrame, wire.Tick)
FEED_RECEIVED: tuple[type[Struct], ...] = (wire.Watch,)
_TENANT: dict[str, Schema] = {
    "tenant": {"type": "string", "description": "Another tenant, or * for all. Operators only."},
}
FILTERS: dict[str, Schema] = {
    "since": {"type": "string", "description": "How long ago, such as 90m or 24h, the default; or Unix seconds."},
    "until": {"type": "string", "description": "The same; now by default."},
    "step": {"type": "string", "enum": [*wire.SPANS], "description": "How long the parts of the window are."},
    "model": {
        "type": "string",
        "description": "Who answered, else who was asked last; (cache), or (none) where nobody was asked.",
    },
    "tag": {"type": "string", "description": "The request's tag; (none): without one."},
    **_TENANT,
}
OPERATIONS = (
    Operation(
        "get",
        "/v1/dashboard/figures",
        "What requests took, cost and saved, over time. Admins only.",
        wire.FiguresReport,
        parameters=FILTERS,
    ),
    Operation(
        "get",
        "/v1/dashboard/now",
        "What runs, how the models fare, and what is left of budgets. Admins only.",
        wire.Now,
        parameters=_TENANT,
    ),
    Operation(
        "get",
        "/v1/dashboard/promises",
        "What is promised, and whether it holds. Admins only.",
        wire.PromisesReport,
        parameters={"since": {"type": "string", "description": "How long ago, such as 12h or 7d, the default."}}
        | _TENANT,
    ),
    Operation(
        "get",
        "/v1/dashboard/requests",
        "Requests, the latest end first. Admins only.",
        wire.Lines,
        parameters={name: schema for name, schema in FILTERS.items() if name != "step"}
        | {
            "status": {"type": "string", "description": "Only those that ended so."},
            "source": {"type": "string", "description": "Only those: cache, small, large, or none."},
            "code": {"type": "string", "description": "Only those with this error, or reason to be incomplete."},
            "strategy": {"type": "string", "description": "Only those with this strategy."},
            "limit": {"type": "integer", "description": f"How many, 1 to {wire.MAX_LINES}; 50 by default."},
            "after": {"type": "string", "description": "Go on after this `last_id`, or after a request's id."},
        },
    ),
    Operation("get", "/v1/dashboard/requests/{id}", "The whole story of one request. Admins only.", wire.StoryReport),
)


def feed_channel(also: Sequence[str], headers: Schema) -> Schema:
    """Return the channel of the WebSocket. `also`: messages that it shares with another channel."""
    names = [*(str(shape.__struct_config__.tag) for shape in (*FEED_SENT, *FEED_RECEIVED)), *also]
    query = {"type": "object", "properties": {name: {"type": "string"} for name in FILTERS}}
    return {
        "address": "/v1/dashboard/live",
        "description": "What has ended, about once a second. Admins only. Frames are left out for who is too slow.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"ws": {"method": "GET", "query": query, "headers": headers, "bindingVersion": "0.1.0"}},
    }
