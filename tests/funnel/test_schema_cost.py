"""Schemas that make the validator go over a value again and again, and those that only look like it."""

import json
from typing import Any

import jsonschema_rs
import pytest

from millrace.errors import MillraceError
from millrace.funnel import checks
from millrace.funnel.checks import Candidate, form
from millrace.funnel.checks.schema_cost import SchemaCost
from millrace.types import RESPONSES_PATHS, Finish, FinishReason, Format, Tool, ToolCall

STOP = Finish(reason=FinishReason.STOP)
Schema = dict[str, Any]
FIRST = {"$ref": "#/$defs/d0"}


def doubling(times: int, keyword: str = "anyOf", last: Any = None, root: Any = None) -> Schema:
    """Each definition refers to the next one twice; `root` says how the first is come to."""
    defs: Schema = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(times)}
    return {"$defs": {**defs, f"d{times}": last or {"not": {}}}, **(root or {"additionalProperties": FIRST})}


def nested(times: int, **around: Any) -> Schema:
    schema: Schema = {"type": "object"}
    for _ in range(times):
        schema = {"allOf": [schema], **around}
    return schema


def tree(operations: int) -> Schema:
    """Expressions: operations with two sides, calls with many arguments, numbers."""
    one = {"$ref": "#/$defs/expression"}
    alternatives: list[Schema] = [
        {
            "type": "object",
            "properties": {"type": {"const": f"op{n}"}, "left": one, "right": one},
            "required": ["type", "left", "right"],
            "additionalProperties": False,
        }
        for n in range(operations)
    ]
    call = {"properties": {"type": {"const": "call"}, "arguments": {"type": "array", "items": one}}}
    number = {"properties": {"type": {"const": "number"}, "value": {"type": "number"}}, "required": ["type"]}
    return {"$defs": {"expression": {"anyOf": [*alternatives, call, number]}}, **one}


def expression(depth: int) -> Schema:
    if depth == 0:
        return {"type": "number", "value": 1}
    return {"type": "op0", "left": expression(depth - 1), "right": expression(depth - 1)}


def chain(length: int) -> Schema:
    value: Schema = {"value": 0, "next": None}
    for number in range(length):
        value = {"value": number, "next": value}
    return value


LINKED = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "additionalProperties": False,
}
KINDS = {
    "items": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": f"k{n}"}, "at": {"type": "object", "properties": {"x": {}}}},
                "required": ["kind"],
            }
            for n in range(10)
        ]
    }
}
NAMES = [f"key_number_{n}" for n in range(900)]
FLAT: Schema = {"type": "object", "properties": {name: {"type": "string"} for name in NAMES}, "required": NAMES}
ANY_JSON = {
    "$dynamicAnchor": "json",
    "type": ["object", "array", "string", "number"],
    "additionalProperties": {"$dynamicRef": "#json"},
    "items": {"$ref": "#"},
}


@pytest.mark.parametrize(
    "schema",
    [
        doubling(26),
        doubling(26, "oneOf"),
        doubling(26, "allOf", {"type": "string"}),
        doubling(40, root={"items": FIRST}),
        doubling(40, root={"prefixItems": [FIRST]}),
        doubling(40, root={"patternProperties": {"a": FIRST}}),
        doubling(40, root={"dependentSchemas": {"a": FIRST}}),
        doubling(40, root={"if": {"not": FIRST}}),
        doubling(40, root={"$id": "https://example.com/s", "items": {"$ref": "https://example.com/s#/$defs/d0"}}),
        doubling(40, last={"$anchor": "a"}, root={"properties": {"a": {"allOf": [{"$ref": "#a"}, FIRST]}}}),
        nested(30, unevaluatedProperties=False),
        nested(30, unevaluatedItems=False),
        {"items": {"allOf": [{"items": {"$ref": "#"}}] * 1000}},
    ],
)
def test_what_multiplies_is_refused_before_it_is_used(schema: Schema) -> None:
    """In a format, a check, a tool's parameters: the same door, with the path."""
    with pytest.raises(MillraceError, match="alternatives multiply") as raised:
        form.check_usable(schema, "millrace.checks[0]")
    assert (raised.value.code, raised.value.param) == ("invalid_request", "millrace.checks[0]")
    with pytest.raises(MillraceError, match="alternatives multiply"):
        form.check_tools([Tool(name="t", parameters=schema)], RESPONSES_PATHS.tool)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"allOf": [{"$ref": "#"}]}, "comes back to itself"),
        ({"$dynamicAnchor": "n", "anyOf": [{"$dynamicRef": "#n"}, {"type": "string"}]}, "comes back to itself"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            "comes back to itself",
        ),
        ({"items": {"$ref": "#/items"}}, "comes back to itself"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "write the definition into the schema"),
        ({"properties": {"a": {"$id": "https://example.com/a", "$ref": "#"}}}, "$id inside a schema"),
    ],
)
def test_what_cannot_be_followed_is_refused(schema: Schema, reason: str) -> None:
    """A reference must lead on, and stay within the schema."""
    with pytest.raises(MillraceError) as raised:
        form.check_usable(schema, "p")
    assert reason in raised.value.message


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (LINKED, chain(300)),
        ({"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}, {"children": [{"children": []}] * 9}),
        (KINDS, [{"kind": f"k{n % 10}", "at": {"x": [n]}} for n in range(5000)]),
        (tree(1), expression(6)),
        (tree(12), expression(6)),
        (FLAT, dict.fromkeys(NAMES, "a")),
        ({"items": FLAT}, [dict.fromkeys(NAMES, "a")] * 20),
        (ANY_JSON, {"a": [{"b": ["c"] * 1000}] * 20}),
        ({"items": {"enum": NAMES}}, NAMES),
        ({"properties": {"id": {"type": "string", "id": "a"}}}, {"id": "b"}),
        ({"type": "string", "pattern": "^a+$"}, "a" * 1_000_000),
        ({"prefixItems": [{"type": "string"}, {"$ref": "#/prefixItems/0"}]}, ["a", "b"]),
        (
            {"definitions": {"a/b": {"type": "null"}}, "additionalProperties": {"$ref": "#/definitions/a~1b"}},
            {"a": None},
        ),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}]}, [None]),
    ],
)
def test_what_people_use_passes(schema: Schema, value: Any) -> None:
    """Recursion, unions of many kinds, large flat objects."""
    assert jsonschema_rs.is_valid(schema, value)
    form.check_usable(schema, "p")
    assert SchemaCost(schema).allows(value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(14), {str(n): 1 for n in range(1000)}),
        ({"anyOf": [{"items": {"$ref": "#"}}] * 4}, [[[[[[[[[[[[]]]]]]]]]]]]),
        ({"items": {"enum": [{"a": n} for n in range(2000)]}}, [{"a": 1999}] * 1000),
        ({"items": {"enum": [*range(2000), "a"]}}, [1999] * 1000),
        ({"patternProperties": {f"^a{n}": {} for n in range(1000)}}, {str(n): 1 for n in range(5000)}),
        ({"properties": {"next": {"$ref": "#"}} | FLAT["properties"]}, chain(200)),
    ],
)
def test_an_answer_that_would_take_too_long_has_not_the_form(schema: Schema, value: Any) -> None:
    """It cannot be checked; so it fails, as an answer and as the arguments of a call."""
    text = json.dumps(value)
    form.check_usable(schema, "p")
    assert not SchemaCost(schema).allows(value)
    assert not form.conforms(text, schema)
    wanted = Format(kind="json_schema", name="answer", schema=schema)
    assert checks.judge(Candidate(text=text, finish=STOP, format=wanted)).check == "form"
    call = ToolCall(id="c", name="t", arguments=text)
    assert checks.judge(
        Candidate(text="", finish=STOP, tools=(Tool(name="t", parameters=schema),), calls=(call,))
    ).check


@pytest.mark.parametrize(
    ("text", "holds"),
    [("[" * 1_000_000, False), ("[" * 900 + "]" * 900, True), ('{"a":' * 100_000 + "1" + "}" * 100_000, False)],
)
def test_deep_answers_are_judged(text: str, holds: bool) -> None:
    """They neither crash nor hang."""
    schema = {"items": {"items": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}}
    assert form.conforms(text, schema) is holds
