"""The check of declared formats: an answer that must be JSON, and the arguments of a tool call.

Schemas are compiled and applied by a `SchemaValidator`, off the event loop. What it cannot check within its bounds is
not checked: the provider gets the schema as it is, and the client is told the path.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import msgspec

from millrace.errors import invalid
from millrace.funnel.offload import in_thread_if_long
from millrace.ports import SchemaValidator
from millrace.types import Request, ToolCall

SHORT = 16 * 1024  # characters; decoding as many takes some 0.1 ms
OBJECT = b'{"type":"object"}'


async def unchecked(request: Request, schemas: SchemaValidator) -> tuple[str, ...]:
    """Compile the schemas of a request; return the paths of what is not checked here.

    Raises `invalid_request` with the path of a schema that nobody can use.
    """
    paths, form = request.paths, request.prompt.format
    tools = enumerate(request.prompt.tools)
    given = [(paths.of_tool(tool, index), tool.parameters) for index, tool in tools]
    given += [(paths.schema, form.schema if form else None), (paths.check_schema, request.check_schema)]
    given += [(paths.check_pattern, pattern_schema(request.check_pattern))]
    given = [(path, schema) for path, schema in given if schema is not None]
    if not given:
        return ()
    encode = partial(_encoded, [schema for _, schema in given])
    characters = request.prompt.tools_size + (form.size if form else 0)
    encoded = await in_thread_if_long(request.tenant, characters, encode)
    found: list[str] = []
    for (path, _), report in zip(given, await schemas.compile(encoded, request.tenant), strict=True):
        if report.error is not None:
            raise invalid(path, f"{path}: not a usable JSON schema: {report.error}")
        found += [f"{path}.{inner}" if inner else path for inner in report.unchecked]
    return tuple(found)


def pattern_schema(pattern: str | None) -> dict[str, object] | None:
    """Return the schema of texts that match a pattern."""
    return None if pattern is None else {"type": "string", "pattern": pattern}


def _encoded(schemas: Sequence[object]) -> list[bytes]:
    return [msgspec.json.encode(schema) for schema in schemas]


class Form:
    """Applies the schemas of one request, except those that are not checked."""

    def __init__(self, schemas: SchemaValidator, tenant: str, left_out: Iterable[str]) -> None:
        self._schemas = schemas
        self._tenant = tenant
        self._left_out = {*left_out}  # paths

    async def conforms(self, text: str, schema: dict[str, object] | None, path: str) -> bool:
        """Whether a text is JSON that matches the schema at a path; without one, whether it is a JSON object.

        False if the validation takes too long. A schema that is not checked still asks for JSON.
        """
        if schema is None:
            return await self._is_object(text)
        encoded = None if path in self._left_out else msgspec.json.encode(schema)
        return await self._schemas.matches(text, encoded, self._tenant)

    async def fits(self, call: ToolCall, parameters: dict[str, object] | None, path: str) -> bool:
        """Whether the arguments of a call are a JSON object that matches the tool's schema at a path."""
        if not await self._is_object(call.arguments):
            return False
        return parameters is None or await self.conforms(call.arguments, parameters, path)

    async def _is_object(self, text: str) -> bool:
        if len(text) > SHORT:
            return await self._schemas.matches(text, OBJECT, self._tenant)
        try:
            return isinstance(msgspec.json.decode(text), dict)
        except (msgspec.DecodeError, RecursionError):
            return False
