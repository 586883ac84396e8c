"""A request of the same shape as one in the ledger: what can be sent again where its text must not be."""

import json
from typing import Any

from millrace.types import Entry, Shape

WORD = " mill"  # a token in the encodings that Millrace knows
CHARACTERS = 4.0  # of a token, where nothing better is known
CALLED = "tool_1"


def repro_of(row: Entry) -> tuple[str, list[str]] | None:
    """Return a body for `POST /v1/responses`, and what it lacks; None if the shape is not known."""
    shape = row.shape
    if shape is None:
        return None
    lacks = ["the text, which is filler of about the same tokens"]
    characters = _characters_of_a_token(row, shape)
    body: dict[str, Any] = {"model": shape.model, "input": _input(row, shape, characters, lacks)}
    body |= {
        "max_output_tokens": shape.max_output_tokens,
        "temperature": shape.temperature,
        "top_p": shape.top_p,
        "parallel_tool_calls": shape.parallel_tool_calls,
        "service_tier": shape.service_tier,
        "store": shape.store,
        "reasoning": {"effort": shape.reasoning_effort} if shape.reasoning_effort else None,
        "text": _text(shape, lacks),
        **_tools(shape, characters, lacks),
    }
    body["millrace"] = _given(
        {
            "strategy": str(row.strategy),
            "delivery": shape.delivery,
            "cache": shape.cache,
            "concise": shape.concise or None,
            "context": _context(row, shape, characters),
            "context_budget": shape.context_budget,
            "checks": None if shape.checks is None else list(shape.checks),
            "max_cost_usd": shape.max_cost,
        }
    )
    if shape.media:
        lacks.append(f"{shape.media} images, files or recordings")
    lacks.append("its session, user and tag, and fields that Millrace does not read")
    body["metadata"] = {"repro_of": row.request_id}
    return json.dumps(_given(body), indent=2), lacks


def _characters_of_a_token(row: Entry, shape: Shape) -> float:
    size = sum(size for _, size in shape.messages) + shape.earlier_size + shape.context + sum(shape.tools)
    counted = row.statement.usage.input_tokens
    return size / counted if size and counted else CHARACTERS


def _filler(size: int, characters: float) -> str:
    return _words(round(size / characters)) if size else ""


def _words(tokens: int) -> str:
    return (WORD * max(1, tokens))[1:]


def _input(row: Entry, shape: Shape, characters: float, lacks: list[str]) -> list[dict[str, Any]]:
    """Return the messages. A tool's result follows a call, so each has one."""
    items: list[dict[str, Any]] = []
    before: list[tuple[str, str]] = []
    if "history" in shape.cut and "context" not in shape.cut:
        before += [("user", _words(row.trimmed_tokens)), ("assistant", _words(1))]
        lacks.append("how the history that was cut was divided into messages")
    if shape.earlier:
        before.append(("user", _filler(shape.earlier_size, characters)))
        lacks.append(f"how its first {shape.earlier} messages were divided")
    messages = [*before, *((role, _filler(size, characters)) for role, size in shape.messages)]
    calls = 0
    for at, (role, text) in enumerate(messages):
        if role == "tool":
            calls += 1
            called = messages[at - 1] if at else ("", "")  # what it says is the arguments of its calls, mostly
            arguments = json.dumps({"text": called[1]} if called[0] == "assistant" else {})
            items.append({"type": "function_call", "call_id": f"call_{calls}", "name": CALLED, "arguments": arguments})
            items.append({"type": "function_call_output", "call_id": f"call_{calls}", "output": text})
        elif role != "assistant" or (text and messages[at + 1 : at + 2] and messages[at + 1][0] != "tool"):
            items.append({"role": role, "content": text or _words(1)})
    return items


def _context(row: Entry, shape: Shape, characters: float) -> list[str] | None:
    chunks = [_filler(shape.context, characters)] if shape.context else []
    if "context" in shape.cut:
        chunks.append(_words(row.trimmed_tokens))
    return chunks or None


def _tools(shape: Shape, characters: float, lacks: list[str]) -> dict[str, Any]:
    sizes = shape.tools or ((1,) if any(role == "tool" for role, _ in shape.messages) else ())
    if not sizes:
        return {}
    lacks.append("names and schemas of its tools, which are filler in their descriptions")
    tools = [
        {
            "type": "function",
            "name": f"tool_{number}",
            "description": _filler(size, characters),
            "parameters": {"type": "object", "properties": {}},
        }
        for number, size in enumerate(sizes, 1)
    ]
    choice: Any = {"type": "function", "name": CALLED} if shape.tool_choice == "function" else shape.tool_choice
    return {"tools": tools, "tool_choice": None if choice == "hosted" else choice}


def _text(shape: Shape, lacks: list[str]) -> dict[str, Any] | None:
    form: dict[str, Any] | None = None
    if shape.format == "json_schema":
        lacks.append("the schema of its answer")
        form = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}
    elif shape.format:
        form = {"type": shape.format}
    return _given({"format": form, "verbosity": shape.verbosity}) or None


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", {})}
