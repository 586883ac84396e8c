"""The schemas of a request before it runs: refused with their path, or let through with what is not checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from millrace.errors import MillraceError
from millrace.funnel import checks
from millrace.funnel.checks import Candidate, form
from millrace.ports import SchemaReport
from millrace.types import Format, Paths, Tool, ToolCall
from tests.support.scripted_models import CALLED, STOP, request


@dataclass
class Reporting:
    """A `SchemaValidator` that reports what it is told to, and remembers what it was asked."""

    reports: dict[bytes, SchemaReport] = field(default_factory=dict)
    asked: list[object] = field(default_factory=list)

    async def compile(self, schemas: Sequence[bytes], tenant: str) -> list[SchemaReport]:
        self.asked += schemas
        return [self.reports.get(schema, SchemaReport()) for schema in schemas]

    async def matches(self, text: str, schema: bytes | None, tenant: str) -> bool:
        self.asked.append((text, schema, tenant))
        return True

    async def faults(self, text: str, schema: bytes | None, tenant: str) -> tuple[str, ...]:
        return ()


ODD = {"odd": 1}
FORMAT = Format(kind="json_schema", name="answer", schema=ODD)
PATHS = Paths(schema="response_format.json_schema.schema", tool="tools[{}].function.parameters", check_schema="c[1]")
WHERE: list[tuple[dict[str, Any], str]] = [
    ({"format": FORMAT}, "response_format.json_schema.schema"),
    ({"tools": (Tool(name="a"), Tool(name="b", parameters=ODD))}, "tools[1].function.parameters"),
    ({"check_schema": ODD}, "c[1]"),
]


@pytest.mark.parametrize(("fields", "path"), WHERE)
async def test_a_schema_that_nobody_can_use_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    """In a format, a tool's parameters, a check of the client's own; in the words of its dialect."""
    schemas = Reporting({b'{"odd":1}': SchemaReport("no such type")})
    with pytest.raises(MillraceError) as raised:
        await form.unchecked(request(paths=PATHS, **fields), schemas)
    assert (raised.value.code, raised.value.param) == ("invalid_request", path)
    assert raised.value.message == f"{path}: not a usable JSON schema: no such type"


@pytest.mark.parametrize(("fields", "path"), WHERE)
async def test_what_is_not_checked_is_named(fields: dict[str, Any], path: str) -> None:
    """A pattern within a schema, or all of it."""
    schemas = Reporting({b'{"odd":1}': SchemaReport(unchecked=("", "a.pattern"))})
    found = await form.unchecked(request(paths=PATHS, **fields), schemas)
    assert found == (path, f"{path}.a.pattern")


async def test_a_request_without_schemas_asks_nothing() -> None:
    """Neither does a plain JSON object."""
    schemas = Reporting()
    assert await form.unchecked(request(format=Format(kind="json_object"), tools=(Tool(name="a"),)), schemas) == ()
    assert schemas.asked == []


async def test_a_schema_that_is_not_checked_still_asks_for_json() -> None:
    """For an object, as the arguments of a call."""
    schemas = Reporting()
    left_out = ("text.format.schema", "tools[0].parameters")
    answer = Candidate(text="[1]", finish=STOP, format=FORMAT, unchecked=left_out, tenant="t")
    assert (await checks.judge(answer, schemas)).passed
    calls = (ToolCall(id="c", name="a", arguments="{}"),)
    tools = (Tool(name="a", parameters=ODD),)
    assert (await checks.judge(Candidate(text="", finish=CALLED, tools=tools, calls=calls), schemas)).passed
    assert (
        await checks.judge(
            Candidate(text="", finish=CALLED, tools=tools, calls=calls, unchecked=left_out, tenant="t"), schemas
        )
    ).passed
    assert schemas.asked == [("[1]", None, "t"), ("{}", b'{"odd":1}', ""), ("{}", None, "t")]


async def test_a_long_object_is_not_decoded_here() -> None:
    """It would hold the loop."""
    schemas = Reporting()
    long = '{"a":"' + "x" * form.SHORT + '"}'
    answer = Candidate(text=long, finish=STOP, format=Format(kind="json_object"), tenant="t")
    assert (await checks.judge(answer, schemas)).passed
    assert schemas.asked == [(long, form.OBJECT, "t")]
