"""The published contract of HTTP, generated from the wire structs: OpenAPI. That of WebSockets is in `asyncapi`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any, get_args

import msgspec
from msgspec import UNSET, Struct, inspect

from millrace.errors import RULES
from millrace.wire import (
    batches,
    cache,
    chunks,
    completions,
    documents,
    embeddings,
    evidence,
    items,
    ledger,
    levers,
    message_events,
    messages,
    reload,
    requests,
    responses as wire,
    router,
    stored_items,
)

Schema = dict[str, Any]

SENT: tuple[type[Struct], ...] = get_args(wire.ServerEvent)
RECEIVED: tuple[type[Struct], ...] = get_args(requests.ClientFrame)

_REF = "#/components/schemas/{name}"
JSON = "application/json"
ABOUT = {
    "title": "Millrace",
    "description": "The OpenAI Responses API. Clients can ask for extensions: cancel, resume, revise and cost.",
    "license": {"name": "MIT", "identifier": "MIT"},
}


def tag(shape: type[Struct]) -> str:
    """Return the `type` of a frame."""
    return str(shape.__struct_config__.tag)


@dataclass(frozen=True, slots=True)
class Operation:
    """One HTTP endpoint: its request body, its answer, and the events that it can stream instead."""

    method: str
    path: str
    summary: str
    answer: type[Struct]
    body: type[Struct] | None = None
    streamed: tuple[type[Struct], ...] = ()
    parameters: dict[str, Schema] = field(default_factory=dict)  # of the query
    status: int = 200
    refusals: dict[int, type[Struct]] = field(default_factory=dict)  # answers with another status that are not errors
    takes: str = JSON  # the form of the body
    gives: str = JSON  # the form of the answer; of another one it is a line
    to_anthropic: type[Struct] | None = None  # the answer to a request with the header `anthropic-version`
    refused: tuple[type[Struct], ...] = (documents.Refused,)  # errors


def _paged(default: int, most: int) -> dict[str, Schema]:
    return {
        "limit": {"type": "integer", "description": f"How many, 1 to {most}; {default} by default."},
        "after": {"type": "string", "description": "The id of the one after which to go on."},
    }


UNTYPED = {items.MessageItem, items.ItemReference}  # clients may leave out their `type`
STREAMED = tuple(event for event in SENT if issubclass(event, wire.Event) and tag(event).startswith("response."))
OPERATIONS = (
    Operation(
        "post",
        "/v1/responses",
        "Ask for a response, whole or as a stream.",
        wire.ResponseBody,
        body=requests.CreateBody,
        streamed=(*STREAMED, wire.Error),
    ),
    Operation(
        "get",
        "/v1/responses/{id}",
        "Look up a response, or read its events again.",
        wire.ResponseBody,
        streamed=(*STREAMED, wire.Error),
        parameters={
            "stream": {"type": "boolean", "description": "Whether to stream the events."},
            "starting_after": {"type": "integer", "description": "The last sequence_number seen."},
        },
    ),
    Operation("delete", "/v1/responses/{id}", "Delete a stored response.", wire.Deleted),
    Operation(
        "get",
        "/v1/responses/{id}/input_items",
        "List what a response was made from.",
        stored_items.InputItems,
        parameters={
            "limit": {"type": "integer", "description": "How many items, 1 to 100; 20 by default."},
            "order": {"type": "string", "description": "desc (the default): the latest first; or asc."},
            "after": {"type": "string", "description": "The id of the item after which to go on."},
            "include": {"type": "array", "description": "Read, and of no effect: every item is listed whole."},
        },
    ),
    Operation("post", "/v1/responses/{id}/cancel", "Stop a response that runs.", wire.ResponseBody),
    Operation(
        "post",
        "/v1/responses/{id}/feedback",
        "Say what you think of an answer.",
        documents.FeedbackAnswer,
        body=documents.FeedbackRequest,
    ),
    Operation(
        "post",
        "/v1/chat/completions",
        "Ask for a chat completion, whole or as a stream.",
        chunks.Completion,
        body=completions.CompletionBody,
        streamed=(chunks.Chunk, chunks.Broken),
    ),
    Operation(
        "post",
        "/v1/embeddings",
        "Ask the configured model for embeddings.",
        embeddings.EmbeddingsAnswer,
        body=embeddings.EmbeddingsBody,
    ),
    Operation(
        "post",
        "/v1/messages",
        "Ask for a message, whole or as a stream.",
        message_events.WholeMessage,
        body=messages.MessagesBody,
        streamed=get_args(message_events.Event),
        refused=(message_events.MessageFailed,),
    ),
    Operation(
        "post",
        "/v1/messages/count_tokens",
        "Count the tokens of a request.",
        message_events.TokenCount,
        body=messages.CountBody,
        refused=(message_events.MessageFailed,),
    ),
    Operation(
        "post",
        "/v1/files",
        "Upload a file of requests, for a batch.",
        batches.FileObject,
        body=batches.FileForm,
        takes="multipart/form-data",
    ),
    Operation(
        "get",
        "/v1/files",
        "List the files of the tenant.",
        batches.FileObjects,
        parameters=_paged(batches.MAX_FILES, batches.MAX_FILES)
        | {
            "order": {"type": "string", "description": "desc (the default): the newest first; or asc."},
            "purpose": {"type": "string", "description": "Only those: batch, or batch_output."},
        },
    ),
    Operation("get", "/v1/files/{id}", "Look up a file.", batches.FileObject),
    Operation("delete", "/v1/files/{id}", "Delete a file.", batches.FileDeleted),
    Operation(
        "get",
        "/v1/files/{id}/content",
        "Read a file, JSON Lines.",
        batches.LineEnded,
        gives="application/octet-stream",
    ),
    Operation("post", "/v1/batches", "Run a file of requests.", batches.BatchObject, body=batches.BatchBody),
    Operation(
        "get",
        "/v1/batches",
        "List the batches of the tenant.",
        batches.BatchObjects,
        parameters=_paged(20, batches.MAX_BATCHES),
    ),
    Operation("get", "/v1/batches/{id}", "How a batch stands.", batches.BatchObject),
    Operation("post", "/v1/batches/{id}/cancel", "Start no more of a batch.", batches.BatchObject),
    Operation("get", "/v1/cache/stats", "What the caches hold of the tenant. Admins only.", cache.CacheStats),
    Operation(
        "get",
        "/v1/cache/entries",
        "Search for the stored questions nearest to a text. Admins only.",
        cache.FoundEntries,
        parameters={
            "query": {"type": "string", "description": "The text."},
            "scope": {"type": "string", "description": "Only in scopes that begin so; hexadecimal."},
            "limit": {"type": "integer", "description": "How many, 1 to 32; 10 by default."},
        },
    ),
    Operation(
        "delete",
        "/v1/cache/entries",
        "Delete all that the caches hold of the tenant, or in one scope. Admins only.",
        cache.DeletedEntries,
        parameters={
            "tenant": {"type": "string", "description": "The tenant of the key."},
            "scope": {"type": "string", "description": "Only in this scope; hexadecimal."},
        },
    ),
    Operation("get", "/v1/cache/entries/{id}", "Show a stored answer. Admins only.", cache.ShownEntry),
    Operation("delete", "/v1/cache/entries/{id}", "Delete it from both caches. Admins only.", cache.DeletedEntries),
    Operation(
        "post",
        "/v1/cache/why",
        "What the semantic cache decides of two questions. Admins only.",
        cache.ShownDecision,
        body=cache.Asked,
    ),
    Operation(
        "get",
        "/v1/evidence",
        "How often cheap answers to the tenant were right. Admins only.",
        evidence.EvidenceReport,
        parameters={"since": {"type": "string", "description": "How long ago, such as 12h or 7d, the default."}},
    ),
    Operation(
        "get",
        "/v1/ledger",
        "What requests have cost and why, in the order in which they have ended. Admins only.",
        ledger.LedgerEntries,
        parameters={
            "after": {"type": "string", "description": "The id of the row to go on from."},
            "limit": {"type": "integer", "description": f"How many, 1 to {ledger.MAX_LIMIT}; 100 by default."},
            "order": {"type": "string", "description": "desc, the latest first, or asc; desc by default."},
        },
    ),
    Operation("get", "/v1/ledger/{id}", "What one request has cost and why. Admins only.", ledger.LedgerEntry),
    Operation(
        "get", "/v1/router", "What the router has learned of the tenant's requests. Admins only.", router.RouterReport
    ),
    Operation("post", "/v1/reload", "Read the configuration anew. Admins only.", reload.Reloaded),
    Operation(
        "get",
        "/v1/levers",
        "What each lever took off the tenant's bill, and what was wasted. Admins only.",
        levers.LeversReport,
        parameters={
            "since": {"type": "string", "description": "How long ago, such as 12h or 7d, the default."},
            "by": {"type": "string", "enum": [*levers.BY], "description": "Also a bill for each of these."},
        },
    ),
    Operation(
        "get",
        "/v1/models",
        "List the names a request may give as its model.",
        documents.ModelNames,
        to_anthropic=message_events.MessageModels,
        refused=(documents.Refused, message_events.MessageFailed),
    ),
    Operation(
        "get",
        "/v1/models/{id}",
        "Look up one of these names.",
        documents.ModelName,
        to_anthropic=message_events.MessageModel,
        refused=(documents.Refused, message_events.MessageFailed),
    ),
    Operation(
        "post",
        "/v1/tickets",
        "Get a ticket that lets a page connect once, within a minute.",
        documents.TicketAnswer,
        body=documents.TicketRequest,
        status=201,
    ),
    Operation(
        "get",
        "/healthz",
        "Whether the process is alive.",
        documents.Health,
        parameters={
            "verbose": {
                "type": "boolean",
                "description": "Adds the memory in use, and what waits for the disk. Admins only.",
            }
        },
    ),
    Operation(
        "get",
        "/readyz",
        "Whether new requests are accepted.",
        documents.Readiness,
        parameters={"verbose": {"type": "boolean", "description": "Adds how each model fares. Admins only."}},
        refusals={503: documents.Readiness},
    ),
)


def openapi(version: str) -> Schema:
    """Return the OpenAPI 3.1 document of the HTTP endpoints."""
    sent: list[type[Struct]] = [documents.Refused]
    for endpoint in OPERATIONS:
        sent += [endpoint.answer, *endpoint.streamed, *endpoint.refusals.values(), *endpoint.refused]
        sent += [endpoint.to_anthropic] if endpoint.to_anthropic else []
    received = [endpoint.body for endpoint in OPERATIONS if endpoint.body]
    names, schemas = schemas_of(sent, received)
    paths: dict[str, Schema] = {}
    for endpoint in OPERATIONS:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _described(endpoint, names)
    refused = {"description": _codes(), "content": {JSON: {"schema": ref(names[documents.Refused])}}}
    return {
        "openapi": "3.1.0",
        "info": {**ABOUT, "version": version},
        "security": [{"key": []}, {"named": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Refused": refused},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "Not needed while no key exists."},
                "named": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
            },
        },
    }


def _described(endpoint: Operation, names: dict[type[Struct], str]) -> Schema:
    described: Schema = {"summary": endpoint.summary}
    parameters = [
        {"name": name, "in": "query", "schema": {"type": schema["type"]}, "description": schema["description"]}
        for name, schema in endpoint.parameters.items()
    ]
    if "{id}" in endpoint.path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    if parameters:
        described["parameters"] = parameters
    if endpoint.body:
        described["requestBody"] = {
            "required": True,
            "content": {endpoint.takes: {"schema": ref(names[endpoint.body])}},
        }
    answers = [endpoint.answer, *([endpoint.to_anthropic] if endpoint.to_anthropic else ())]
    content: Schema = {JSON: {"schema": _one_of(answers, names)}}
    if endpoint.gives != JSON:
        lines = {"type": "string", "description": "A line for each request; each is one JSON object."}
        content = {endpoint.gives: {"schema": lines, "x-item-schema": _one_of(answers, names)}}
    if endpoint.streamed:
        content["text/event-stream"] = {
            "schema": {"type": "string", "description": "Server-sent events; the data of each is one JSON object."},
            "x-item-schema": {"oneOf": [ref(names[shape]) for shape in endpoint.streamed]},
        }
    described["responses"] = {
        str(endpoint.status): {"description": summary(endpoint.answer), "content": content},
        **{
            str(status): {"description": summary(shape), "content": {JSON: {"schema": ref(names[shape])}}}
            for status, shape in endpoint.refusals.items()
        },
        "default": {"$ref": "#/components/responses/Refused"}
        if endpoint.refused == (documents.Refused,)
        else {"description": "Refused.", "content": {JSON: {"schema": _one_of(endpoint.refused, names)}}},
    }
    return described


def _one_of(shapes: Sequence[type[Struct]], names: dict[type[Struct], str]) -> Schema:
    schemas = [ref(names[shape]) for shape in shapes]
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def schemas_of(
    sent: Sequence[type[Struct]], received: Sequence[type[Struct]]
) -> tuple[dict[type[Struct], str], dict[str, Schema]]:
    """Return the schema name of each struct, and all schemas by name. Structs that are sent have all their fields."""
    encoded = made_of(sent)
    shapes = [*encoded, *(shape for shape in made_of(received) if shape not in encoded)]
    refs, schemas = msgspec.json.schema_components(shapes, ref_template=_REF)
    names = {shape: ref["$ref"].rpartition("/")[2] for shape, ref in zip(shapes, refs, strict=True)}
    for shape in encoded:
        schemas[names[shape]] = _as_encoded(shape, schemas[names[shape]])
    plain = {name: _plain(shape, schemas[name]) for shape, name in names.items()}
    return names, {**schemas, **plain}


def made_of(shapes: Iterable[type[Struct]]) -> dict[type[Struct], None]:
    """Return these structs and all structs that their fields contain, breadth first. A dict keeps the order."""
    found: dict[type[Struct], None] = {}
    pending: list[object] = [*inspect.multi_type_info(shapes)]
    while pending:
        node = pending.pop(0)
        if isinstance(node, inspect.StructType):
            if node.cls in found:
                continue
            found[node.cls] = None
        if isinstance(node, inspect.Type | inspect.Field):
            children = [getattr(node, name) for name in node.__struct_fields__]
            pending += [part for value in children for part in (value if isinstance(value, tuple) else (value,))]
    return found


def _as_encoded(shape: type[Struct], schema: Schema) -> Schema:
    """Return the schema of a struct as it is encoded: fields with a default are required, unset ones are not."""
    present = {
        field.encode_name
        for field in msgspec.structs.fields(shape)
        if field.required or not (shape.__struct_config__.omit_defaults or field.default is UNSET)
    }
    properties = {
        name: {key: value for key, value in field_schema.items() if key != "default"}
        for name, field_schema in schema["properties"].items()
    }
    tags = [name for name in schema["required"] if name == shape.__struct_config__.tag_field]
    return {
        **schema,
        "properties": properties,
        "required": [*tags, *(name for name in properties if name in present)],
    }


def _plain(shape: type[Struct], schema: Schema) -> Schema:
    """Return a schema without discriminators: AsyncAPI and OpenAPI write them differently, and the tags are enough."""
    schema = _without_discriminators(schema)
    if "description" in schema:
        schema["description"] = cleandoc(schema["description"])
    if shape in UNTYPED:
        schema["required"].remove(shape.__struct_config__.tag_field)
    return schema


def _without_discriminators(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_discriminators(value) for key, value in schema.items() if key != "discriminator"}
    return [_without_discriminators(value) for value in schema] if isinstance(schema, list) else schema


def _codes() -> str:
    """Return the error codes by status, in one line."""
    by_status: dict[int, list[str]] = {}
    for code, rule in RULES.items():
        by_status.setdefault(rule.status, []).append(code + (" (try again)" if rule.retry else ""))
    return "Refused. " + " · ".join(f"{status}: {', '.join(codes)}" for status, codes in sorted(by_status.items()))


def summary(shape: type[Struct]) -> str:
    """Return what a struct is, in one line."""
    assert shape.__doc__, f"{shape.__name__} needs a docstring"
    return shape.__doc__.partition("\n")[0]


def ref(name: str) -> Schema:
    """Return a reference to a schema."""
    return {"$ref": _REF.format(name=name)}
