"""The documents that simulated models write: whatever a simple schema demands, they satisfy."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jsonschema_rs
import orjson
import pytest
from hypothesis import given, strategies as st

from millrace.simulator import SMALL, Simulator
from millrace.simulator.instances import minimal
from millrace.simulator.patterns import matching
from millrace.simulator.prompted import schema_in
from tests.support.server import without_delays
from tests.support.simulator_client import Client


@asynccontextmanager
async def asking_small() -> AsyncIterator[Client]:
    async with Simulator(without_delays(SMALL)) as simulator, aiohttp.ClientSession() as session:
        yield Client(session, simulator)


TAGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
SCHEMAS: dict[str, dict[str, Any]] = {
    "minItems": TAGS,
    "maxItems": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
    "items that differ": {"type": "array", "items": {"type": "string"}, "minItems": 3, "uniqueItems": True},
    "numbers that differ": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
    "choices that differ": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "uniqueItems": True},
    "prefixItems": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2},
    "contains": {"type": "array", "contains": {"const": 7}, "minItems": 2},
    "minLength": {"type": "string", "minLength": 40},
    "maxLength": {"type": "string", "maxLength": 3},
    "no characters": {"type": "string", "maxLength": 0},
    "minimum": {"type": "number", "minimum": 3.5},
    "exclusiveMinimum": {"type": "integer", "exclusiveMinimum": 0},
    "maximum": {"type": "number", "maximum": -3.5},
    "exclusiveMaximum": {"type": "integer", "exclusiveMaximum": 0},
    "both": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.1},
    "multipleOf": {"type": "integer", "minimum": 11, "multipleOf": 5},
    "enum": {"enum": ["red", "blue"]},
    "const": {"const": {"a": 1}},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-\\d{4}(x|y)?$"},
    "pattern with minLength": {"type": "string", "pattern": "^[a-z]+$", "minLength": 12},
    "excluding pattern": {"type": "string", "pattern": "^[^a-z ]{3}\\.$"},
    "format": {"type": "string", "format": "date-time"},
    "anyOf": {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "null"}]},
    "allOf": {"allOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"b": {"const": 2}}}], "type": "object"},
    "$ref": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "required": ["a"],
        "$defs": {"A": {"type": "object", "properties": {"tags": TAGS}, "required": ["tags"]}},
    },
    "recursion": {
        "$ref": "#/$defs/N",
        "$defs": {
            "N": {"type": "object", "required": ["v"], "properties": {"v": {"enum": [1]}, "n": {"$ref": "#/$defs/N"}}}
        },
    },
    "minProperties": {"type": "object", "minProperties": 2, "additionalProperties": {"type": "integer"}},
    "several types": {"type": ["string", "null"], "minLength": 20},
    "no properties": {"type": "object", "required": ["a"]},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_document_satisfies_its_schema(name: str) -> None:
    made = json.loads(orjson.dumps(minimal(SCHEMAS[name])))
    jsonschema_rs.validator_for(SCHEMAS[name], validate_formats=True).validate(made)


BOUNDS = st.one_of(st.none(), st.integers(-40, 40))


@given(BOUNDS, BOUNDS, st.integers(0, 6), st.integers(0, 9), st.booleans())
def test_bounds_are_kept(least: int | None, most: int | None, items: int, length: int, exclusive: bool) -> None:
    if least is not None and most is not None and most < least + 3:
        most = least + 3
    low, high = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    number: dict[str, Any] = {"type": "integer"}
    number |= ({} if least is None else {low: least}) | ({} if most is None else {high: most})
    schema = {
        "type": "object",
        "properties": {
            "n": number,
            "x": number | {"type": "number"},
            "list": {"type": "array", "items": {"type": "string", "minLength": length}, "minItems": items},
        },
        "required": ["n", "x", "list"],
    }
    jsonschema_rs.validator_for(schema).validate(minimal(schema))


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"type": "array", "minItems": "two"}, {"enum": 3}])
def test_what_is_no_schema_raises_what_the_server_refuses(schema: dict[str, Any]) -> None:
    with pytest.raises((AttributeError, TypeError, ValueError, LookupError)):
        minimal(schema)


@pytest.mark.parametrize("pattern", ["(?=a)b", "(a)\\1{3}b(?<!b)", "[", "a{4000}"])
def test_a_difficult_pattern_is_left_alone_or_matched(pattern: str) -> None:
    found = matching(pattern)
    assert found is None or len(found) < 10_000


ASKED_IN_WORDS = f"""Answer as JSON that matches this schema:
{json.dumps({"type": "object", "properties": {"tags": TAGS}, "required": ["tags"]}, indent=2)}
An example of what is none: {{"tags": []}}"""


@pytest.mark.parametrize("response_format", [None, {"type": "json_object"}])
async def test_a_schema_in_the_prompt_is_honoured(response_format: Any) -> None:
    async with asking_small() as asking:
        fields = {"response_format": response_format} if response_format else {}
        text = await _answer(asking, ASKED_IN_WORDS, **fields)
        fenced = await _answer(asking, ASKED_IN_WORDS + "\nWithin a ```json codeblock.")
    assert json.loads(text)["tags"]
    assert fenced.startswith("```json\n{")
    assert json.loads(fenced.removeprefix("```json").removesuffix("```"))["tags"]


@pytest.mark.parametrize("text", ["{" * 5000, '{"a": 1} in JSON', 'no schema: {"type": "object"}', '{"type": "object"'])
def test_other_braces_are_no_schema(text: str) -> None:
    assert schema_in([f"JSON: {text}"]) is None


async def test_some_answers_are_markdown_with_code() -> None:
    async with asking_small() as asking:
        for question in ("Write a Python function that reverses a text.", "Show me code that nobody has thought of."):
            text = await _answer(asking, "", question)
            assert text.count("```") == 2
            assert "\n```python\n" in text


async def test_any_model_name_is_taken_and_repeated() -> None:
    async with asking_small() as asking:
        body = {"model": "claude-opus-4-8", "messages": [{"role": "user", "content": "Hello"}]}
        async with asking.session.post(f"{asking.simulator.base_url}/chat/completions", json=body) as answer:
            assert (answer.status, (await answer.json())["model"]) == (200, "claude-opus-4-8")


async def _answer(asking: Client, system: str, question: str = "Go.", **fields: Any) -> str:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    body = {"messages": messages, **fields}
    async with asking.session.post(f"{asking.simulator.base_url}/chat/completions", json=body) as answer:
        assert answer.status == 200
        text: str = (await answer.json())["choices"][0]["message"]["content"]
        return text
