"""Validation of frames and documents against the published contracts: nothing missing, nothing unknown."""

from functools import cache
from typing import Any, Literal, get_args

import jsonschema_rs

from millrace.wire import asyncapi, contracts
from millrace.wire.dashboard_contract import FEED_RECEIVED, FEED_SENT
from millrace.wire.hosted import AnyAnswerItem, AnyClientItem

SENT, RECEIVED = (*contracts.SENT, *FEED_SENT), (*contracts.RECEIVED, *FEED_RECEIVED)
UNREAD = {shape.__name__ for shape in get_args(AnyAnswerItem | AnyClientItem)}  # their fields pass as they came
Direction = Literal["sent", "received"]  # by the server
Document = dict[str, Any]


def validate(frame: Document, direction: Direction) -> None:
    """Fail unless the AsyncAPI document has this frame; what a client sends may have more fields."""
    validators = _messages(direction)
    assert frame.get("type") in validators, f"not in the contract: {frame}"
    _check(validators[frame["type"]], frame)


def validate_chat(frame: Document) -> None:
    """Fail unless the AsyncAPI document has this frame of the server in a chat."""
    validators = _chat_messages()
    assert frame.get("type") in validators, f"not in the contract: {frame}"
    _check(validators[frame["type"]], frame)


def validate_answer(method: str, path: str, status: int, document: Document) -> None:
    """Fail unless the OpenAPI document has this answer; `path` as it is written there."""
    _check(_answers()[method.lower(), path, str(status) if status < 400 else "default"], document)


def validate_streamed(method: str, path: str, event: Document) -> None:
    """Fail unless the OpenAPI document has this event of a stream."""
    _check(_streams()[method.lower(), path], event)


def _check(validator: jsonschema_rs.Draft202012Validator, document: Document) -> None:
    faults = [
        f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(document)
    ]
    assert faults == [], f"against the contract: {faults} in {document}"


@cache
def _messages(direction: Direction) -> dict[str, jsonschema_rs.Draft202012Validator]:
    document = asyncapi.document("test")
    shapes = SENT if direction == "sent" else RECEIVED
    payloads = {contracts.tag(shape): document["components"]["messages"][contracts.tag(shape)] for shape in shapes}
    return {
        name: _validator(message["payload"], document, closed=direction == "sent") for name, message in payloads.items()
    }


@cache
def _chat_messages() -> dict[str, jsonschema_rs.Draft202012Validator]:
    document = asyncapi.document("test")
    return {
        contracts.tag(shape): _validator(
            document["components"]["messages"][asyncapi.name_of(shape)]["payload"], document
        )
        for shape in asyncapi.CHAT_SENT
    }


@cache
def _answers() -> dict[tuple[str, str, str], jsonschema_rs.Draft202012Validator]:
    document = contracts.openapi("test")
    refused = document["components"]["responses"]["Refused"]
    return {
        (method, path, status): _validator(
            (refused if "$ref" in answer else answer)["content"]["application/json"]["schema"], document
        )
        for path, methods in document["paths"].items()
        for method, endpoint in methods.items()
        for status, answer in endpoint["responses"].items()
        if "$ref" in answer or "application/json" in answer["content"]
    }


@cache
def _streams() -> dict[tuple[str, str], jsonschema_rs.Draft202012Validator]:
    document = contracts.openapi("test")
    return {
        (method, path): _validator(content["text/event-stream"]["x-item-schema"], document)
        for path, methods in document["paths"].items()
        for method, endpoint in methods.items()
        for answer in endpoint["responses"].values()
        if "text/event-stream" in (content := answer.get("content", {}))
    }


def _validator(schema: Document, document: Document, *, closed: bool = True) -> jsonschema_rs.Draft202012Validator:
    schemas = document["components"]["schemas"]
    known = {name: _closed(below) if closed and name not in UNREAD else below for name, below in schemas.items()}
    return jsonschema_rs.Draft202012Validator({**schema, "components": {"schemas": known}})


def _closed(schema: Document) -> Document:
    """Return a struct's schema that allows no further fields."""
    return {**schema, "additionalProperties": False} if "properties" in schema else schema
