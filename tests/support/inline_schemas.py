"""Schemas applied at once, in this process and without bounds."""

from collections.abc import Sequence

import jsonschema_rs
import msgspec

from millrace.ports import SchemaReport
from millrace.schemas import worker


class InlineSchemas:
    """A `SchemaValidator` without a process: for tests of what asks it."""

    async def compile(self, schemas: Sequence[bytes], tenant: str) -> list[SchemaReport]:
        return [SchemaReport()] * len(schemas)

    async def matches(self, text: str, schema: bytes | None, tenant: str) -> bool:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return False
        return schema is None or jsonschema_rs.is_valid(msgspec.json.decode(schema), value)

    async def faults(self, text: str, schema: bytes | None, tenant: str) -> tuple[str, ...]:
        return tuple(worker._faults(text.encode(), schema))
