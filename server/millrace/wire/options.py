"""The options of a request: in a `millrace` object, or in `metadata` for SDKs that allow no extra fields."""

from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, NamedTuple, get_type_hints

from msgspec import Meta, Struct

from millrace.errors import invalid
from millrace.types import CacheMode, Delivery, OnDisconnect, Strategy
from millrace.wire.reading import convert, json_name

MAX_TOKENS = 10**9
MAX_WAIT_MS = 60_000  # of grace_ms and hedge_ms
MAX_DEADLINE_MS = 3_600_000
MAX_REGEX = 1000  # characters
MAX_COST, LEAST_COST = Decimal(1_000_000), Decimal("1e-9")  # dollars; LEAST_COST is the precision of bills
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = (
    32,
    64,
    512,
)  # the Responses API's, with twice the keys
PREFIX = "millrace."

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class ContextChunk(Struct):
    """A piece of context."""

    text: str


class DeclaredCheck(Struct):
    """A check against a schema, as JSON that matches it, or against a regular expression. The models see neither."""

    json_schema: dict[str, Any] | None = None
    regex: Annotated[str, Meta(min_length=1, max_length=MAX_REGEX)] | None = None


class NamedChecks(NamedTuple):
    """The checks that a request names: their names (None: all), a schema and a pattern, and where these are."""

    names: tuple[str, ...] | None = None
    schema: dict[str, Any] | None = None
    schema_path: str = ""
    pattern: str | None = None
    pattern_path: str = ""


class Options(Struct, kw_only=True):
    """The options of a request. Each may also be given in `metadata`, as `millrace.<name>`.

    In `metadata` an option is a string: numbers and booleans in JSON syntax, `checks` as names separated by commas.
    `context` and a check's schema can only be given in the object. The object takes precedence over `metadata`.
    """

    strategy: Strategy | None = None
    delivery: Delivery | None = None
    cache: CacheMode | None = None
    cache_scope: Name | None = None  # cached answers are not shared with other scopes
    context: list[str | ContextChunk] | None = None  # most relevant first
    context_version: Name | None = None  # version of the knowledge base that the context comes from
    context_budget: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None  # tokens of context and history
    checks: list[str | DeclaredCheck] | None = None  # run only these
    max_cost_usd: float | Annotated[str, Meta(max_length=40)] | None = None  # a number or a decimal string
    deadline_ms: Annotated[int, Meta(ge=1, le=MAX_DEADLINE_MS)] | None = None
    on_disconnect: OnDisconnect | None = None
    concise: bool | None = None
    tag: Annotated[str, Meta(min_length=1, max_length=64)] | None = None  # what its cost is put down to
    evidence: bool | None = None  # false: the request is not sampled and judged
    idempotency_key: Name | None = None
    grace_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] | None = None
    hedge_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] | None = None


_KINDS = get_type_hints(Options, include_extras=True)
Metadata = Annotated[
    dict[str, Any],
    Meta(extra_json_schema={"maxProperties": MAX_METADATA, "additionalProperties": {"type": "string"}}),
]


class GivenOptions:
    """The options of one request, and where each of them was given."""

    def __init__(self, given: Options | None, metadata: dict[str, str]) -> None:
        self.options = given or Options()
        self._in_metadata: set[str] = set()
        if not metadata:
            return
        for name, kind in _KINDS.items():
            if getattr(self.options, name) is None and (text := metadata.get(PREFIX + name)) is not None:
                self._in_metadata.add(name)
                setattr(self.options, name, _read(text, name, kind, self.path(name)))

    def path(self, name: str) -> str:
        """Return the path of an option in the request."""
        return f'metadata["{PREFIX}{name}"]' if name in self._in_metadata else PREFIX + name

    def max_cost(self) -> Decimal | None:
        """Return the maximum cost in dollars. Raises `invalid_request`."""
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
        given = self.options.context
        return tuple(chunk if isinstance(chunk, str) else chunk.text for chunk in given) if given else ()

    def checks(self, available: Collection[str]) -> NamedChecks:
        """Return the checks to run. Raises `invalid_request`."""
        if (given := self.options.checks) is None:
            return NamedChecks()
        names: list[str] = []
        found = NamedChecks()
        for index, check in enumerate(given):
            path = f"{self.path('checks')}[{index}]"
            if isinstance(check, str):
                if check not in available:
                    raise invalid(path, f"{path}: {check[:40]!r} is not one of {', '.join(available)}")
                names.append(check)
                continue
            if (check.json_schema is None) == (check.regex is None):
                raise invalid(path, f"{path}: write a name, or an object with either json_schema or regex")
            if check.json_schema is not None:
                if found.schema is not None:
                    raise invalid(path, f"{path}: a second schema; combine both in one with allOf")
                found = found._replace(schema=check.json_schema, schema_path=f"{path}.json_schema")
            else:
                if found.pattern is not None:
                    raise invalid(path, f"{path}: a second regex; combine both in one")
                found = found._replace(pattern=check.regex, pattern_path=f"{path}.regex")
        return found._replace(names=tuple(dict.fromkeys(names)))


def read_metadata(given: dict[str, Any] | None) -> dict[str, str]:
    """Return the metadata. Raises `invalid_request` unless it holds strings within the limits."""
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
    """Return the metadata that the response repeats: all but the options."""
    if not metadata:
        return {}
    return {name: value for name, value in metadata.items() if not name.startswith(PREFIX)}


def _read(text: str, name: str, kind: Any, path: str) -> Any:
    if name == "context":
        raise invalid(path, f"{path}: expected an array in the millrace object, got a string")
    value = [part.strip() for part in text.split(",") if part.strip()] if name == "checks" else text
    return convert(value, kind, path, strict=False)
