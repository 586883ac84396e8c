"""The options of Millrace: in a `millrace` object, or as strings in `metadata` for SDKs that allow no extra field."""

from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, get_type_hints

from msgspec import Meta, Struct

from millrace.errors import invalid
from millrace.types import CacheMode, Delivery, OnDisconnect, Strategy
from millrace.wire.reading import convert, json_name

MAX_TOKENS = 10**9
MAX_WAIT_MS = 60_000  # that one model may be kept waiting for the other
MAX_DEADLINE_MS = 3_600_000
MAX_COST, LEAST_COST = Decimal(1_000_000), Decimal("1e-9")  # dollars; bills are exact to the lesser
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 32, 64, 512  # of the Responses API; twice its keys, for options
PREFIX = "millrace."

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class ContextChunk(Struct):
    """A piece of context."""

    text: str


class SchemaCheck(Struct):
    """A check of its own: the answer must be JSON after this schema. No model is told of it."""

    json_schema: dict[str, Any]


class Options(Struct, kw_only=True):
    """What a request may ask of Millrace. Each option may also stand in `metadata`, as `millrace.<name>`.

    There it is a string: numbers and booleans as JSON writes them, `checks` as names with commas between them;
    `context` and a check's schema stand in the object only, which goes before `metadata`.
    """

    strategy: Strategy | None = None
    delivery: Delivery | None = None
    cache: CacheMode | None = None
    cache_scope: Name | None = None  # one more wall between cached answers
    context: list[str | ContextChunk] | None = None  # most relevant first
    context_version: Name | None = None  # the state of the knowledge base the context is from
    context_budget: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None  # tokens of context and history
    checks: list[str | SchemaCheck] | None = None  # those to run, and no others
    max_cost_usd: float | Annotated[str, Meta(max_length=40)] | None = None  # a number or a decimal string
    deadline_ms: Annotated[int, Meta(ge=1, le=MAX_DEADLINE_MS)] | None = None
    on_disconnect: OnDisconnect | None = None
    concise: bool | None = None
    idempotency_key: Name | None = None
    grace_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] | None = None
    hedge_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] | None = None


_KINDS = get_type_hints(Options, include_extras=True)
Metadata = Annotated[
    dict[str, Any],
    Meta(extra_json_schema={"maxProperties": MAX_METADATA, "additionalProperties": {"type": "string"}}),
]


class Asked:
    """The options of one request, and where each of them stands."""

    def __init__(self, given: Options | None, metadata: dict[str, str]) -> None:
        self.options = given or Options()
        self._in_metadata: set[str] = set()
        for name, kind in _KINDS.items():
            if getattr(self.options, name) is None and (text := metadata.get(PREFIX + name)) is not None:
                self._in_metadata.add(name)
                setattr(self.options, name, _read(text, name, kind, self.path(name)))

    def path(self, name: str) -> str:
        """Return where an option stands in the request."""
        return f'metadata["{PREFIX}{name}"]' if name in self._in_metadata else PREFIX + name

    def max_cost(self) -> Decimal | None:
        """Return the most it may cost, in dollars."""
        if (given := self.options.max_cost_usd) is None:
            return None
        try:
            dollars = Decimal(str(given))
            if not LEAST_COST <= dollars <= MAX_COST:
                raise ValueError
        except (InvalidOperation, ValueError):
            path = self.path("max_cost_usd")
            raise invalid(path, f"{path}: expected dollars, from {LEAST_COST:f} to {MAX_COST}") from None
        return dollars

    def context(self) -> tuple[str, ...]:
        """Return the chunks, most relevant first."""
        return tuple(chunk if isinstance(chunk, str) else chunk.text for chunk in self.options.context or ())

    def checks(self, known: Collection[str]) -> tuple[tuple[str, ...] | None, dict[str, Any] | None, str]:
        """Return the names of the checks to run (None: all), a schema the answer is to have, and its path."""
        if (given := self.options.checks) is None:
            return None, None, ""
        names: list[str] = []
        schema, schema_path = None, ""
        for index, check in enumerate(given):
            path = f"{self.path('checks')}[{index}]"
            if isinstance(check, str):
                if check not in known:
                    raise invalid(path, f"{path}: {check[:40]!r} is not one of {', '.join(known)}")
                names.append(check)
            elif schema is None:
                schema, schema_path = check.json_schema, f"{path}.json_schema"
            else:
                raise invalid(path, f"{path}: a second schema; write one that holds both, with allOf")
        return tuple(dict.fromkeys(names)), schema, schema_path


def read_metadata(given: dict[str, Any] | None) -> dict[str, str]:
    """Return metadata that is strings, within the limits of the Responses API."""
    given = given or {}
    if len(given) > MAX_METADATA:
        raise invalid("metadata", f"metadata: at most {MAX_METADATA} keys, got {len(given)}")
    for name, value in given.items():
        path = f"metadata.{name[:MAX_METADATA_KEY]}"
        if len(name) > MAX_METADATA_KEY:
            raise invalid(path, f"{path}...: a key has at most {MAX_METADATA_KEY} characters")
        if not isinstance(value, str):
            raise invalid(path, f"{path}: expected a string, got {json_name(value)}")
        if len(value) > MAX_METADATA_VALUE:
            raise invalid(path, f"{path}: at most {MAX_METADATA_VALUE} characters, got {len(value)}")
    return given


def echoed(metadata: dict[str, str]) -> dict[str, str]:
    """Return the metadata that comes back with the answer: all but the options."""
    return {name: value for name, value in metadata.items() if not name.startswith(PREFIX)}


def _read(text: str, name: str, kind: Any, path: str) -> Any:
    if name == "context":
        raise invalid(path, f"{path}: expected an array of chunks in the millrace object, got a string")
    value = [part.strip() for part in text.split(",") if part.strip()] if name == "checks" else text
    return convert(value, kind, path, strict=False)
