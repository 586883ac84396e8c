"""TOML file + `MILLRACE__SECTION__KEY` variables -> frozen `Settings`. Every fault is found in one pass.

msgspec stops at the first fault of a value, so the tree is walked here, field by field, and msgspec judges the leaves.
"""

import copy
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from millrace.origins import parse
from millrace.types import Strategy
from millrace.wire import limits

ENV_PREFIX = "MILLRACE__"
NO_FLAGS: Mapping[str, str] = {}
RESERVED = ("auto", "small", "large")
IN_MEMORY = ":memory:"  # a data_dir that keeps nothing
MAX_PRICE = 1_000_000  # dollars per million tokens

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Wait = Annotated[int, Meta(ge=0, le=60_000)]
Seconds = Annotated[float, Meta(gt=0)]
Line = Annotated[str, Meta(min_length=1)]

BRIEFLY = "Answer as briefly as the question allows: no preamble, no repetition of the question, no closing remarks."


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen, where to keep things."""

    host: str = "127.0.0.1"
    port: Port = 8000
    data_dir: str = ".millrace"  # ":memory:" keeps nothing
    max_running: Count = 4096  # requests in flight in this process
    max_connections: Count = 10_000  # WebSockets at once in this process
    origins: tuple[str, ...] = ()  # pages that may connect, such as "https://app.example"
    handshake_timeout_s: Seconds = 10  # for the whole head of a request to arrive
    max_message_bytes: Annotated[int, Meta(ge=1024, le=64 * 2**20)] = limits.MAX_MESSAGE_BYTES
    max_age_s: Seconds = limits.MAX_AGE_S  # of a connection
    stuck_s: Seconds = limits.STUCK_S  # without a byte of an answer taken by its reader: then it is given up
    drain_s: Annotated[float, Meta(ge=0)] = 30  # that what runs may take to end when the process is told to
    store_ttl_s: Seconds = 30 * 86_400  # of a response with `store: true`
    store_bytes: Count = 2**30  # of all of them


class PriceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One upstream model."""

    upstream: Literal["openai"]
    base_url: str
    model: str
    price: PriceSettings
    api_key_env: str | None = None
    context_window: Count = 128_000  # tokens
    max_output_tokens: Count = 1024
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    connect_timeout_s: Seconds = 10
    first_token_timeout_s: Seconds = 60
    stall_timeout_s: Seconds = 30  # between two reads


class ModelsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The two models, and other names clients may use for them."""

    small: ModelSettings
    large: ModelSettings
    aliases: dict[str, str] = {}


class FunnelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests fall."""

    strategy: Strategy = Strategy.AUTO
    context_budget: Count | None = None  # tokens of context and history together; None: what the models take
    hard_above: Count = 3000  # tokens of a prompt above which `auto` asks the large model at once
    grace_ms: Wait = 300  # a race: how much later than small the large model may speak and win
    hedge_ms: Wait = 800  # a hedge: how long small may be silent before large is started too
    concise_line: Line = BRIEFLY  # what a model is told where `concise` is asked for


class CacheSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered."""

    exact: bool = True
    semantic: bool = True
    index_above: Count = 4000  # entries at which a scope of the semantic cache gets an hnswlib index
    hot_scopes: Count = 256  # scopes of the semantic cache in memory
    ttl_s: Seconds = 86_400
    memory_bytes: Count = 64 * 2**20
    disk_bytes: Count = 2**30


class LimitsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every key may do that has no limits of its own; what is left out is unlimited."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    in_flight: Count | None = None
    dollars_per_day: Decimal | None = None
    connections: Count | None = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    models: ModelsSettings
    server: ServerSettings = ServerSettings()
    funnel: FunnelSettings = FunnelSettings()
    cache: CacheSettings = CacheSettings()
    limits: LimitsSettings = LimitsSettings()


class Fault(Struct, frozen=True):
    """One thing to mend: where, and what to write instead."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SettingsError(Exception):
    """All that is wrong with a configuration."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text in quotes",
    "decimal": 'dollars such as "0.15"',
    "object": "a section",
    "array": "a list in brackets",
}


_KINDS = {str: "a string", bool: "a boolean", list: "an array"}


class _Override(str):
    """A text that came from a variable or a flag, so "8000" may stand for a number."""

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, text: str, origin: str) -> Self:
        made = super().__new__(cls, text)
        made.origin = origin
        return made


def load(path: Path, environ: Mapping[str, str] = os.environ, flags: Mapping[str, str] = NO_FLAGS) -> Settings:
    """Read a TOML file, the environment and flags (`server.port` -> text); raise `SettingsError` with every fault."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SettingsError([Fault(str(path), "no such file; name one with --config FILE")]) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([Fault(str(path), f"not read as TOML: {error}")]) from None
    return build(tree, environ, flags)


def build(
    tree: dict[str, Any], environ: Mapping[str, str] = os.environ, flags: Mapping[str, str] = NO_FLAGS
) -> Settings:
    """Make settings of a parsed file, the environment and flags, each outranking the one before it."""
    faults: list[Fault] = []
    tree = copy.deepcopy(tree)
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX):
            _override(tree, name.removeprefix(ENV_PREFIX).lower().split("__"), _Override(text, name), faults)
    for path, text in flags.items():
        keys = path.split(".")
        _override(tree, keys, _Override(text, f"--{keys[-1]}"), faults)
    values = _walk(tree, Settings, "", faults)
    for fault in _meaning(tree, environ):
        value = _at(tree, *fault.path.split("."))
        faults.append(Fault(fault.path + _origin(value), fault.message))
    if faults:
        raise SettingsError(faults)
    return msgspec.convert(values, Settings)


def _override(tree: dict[str, Any], keys: list[str], value: _Override, faults: list[Fault]) -> None:
    *sections, key = keys
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            faults.append(Fault(value.origin, f"{section} is not a section, so it has no key {key}"))
            return
        tree = below
    tree[key] = value


def _walk(tree: Any, shape: type[Struct], path: str, faults: list[Fault]) -> dict[str, Any]:
    """Check one section against its struct; return the values that fit."""
    if not isinstance(tree, dict):
        faults.append(Fault(path + _origin(tree), f"expected a section, got {_kind(tree)}; write [{path}]"))
        return {}
    fields = {field.name: field for field in msgspec.structs.fields(shape)}
    for name in (key for key in tree if key not in fields):
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(fields)}"
        faults.append(Fault(_join(path, name), f"unknown key{_origin(tree[name])}; {hint}"))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        where = _join(path, name)
        if name not in tree:
            if field.required:
                faults.append(Fault(where, f"missing; {_example(where)}"))
        elif isinstance(field.type, type) and issubclass(field.type, Struct):
            values[name] = _walk(tree[name], field.type, where, faults)
        else:
            values[name] = _leaf(tree[name], field.type, where, faults)
    return values


def _leaf(value: Any, kind: Any, path: str, faults: list[Fault]) -> Any:
    try:
        if isinstance(value, _Override):
            listed = get_origin(kind) is tuple  # "a, b" stands for a list of texts
            read = msgspec.convert(_split(value) if listed else str(value), kind, strict=False)
        else:
            read = msgspec.convert(value, kind)
        if isinstance(read, Decimal) and not (read.is_finite() and 0 <= read <= MAX_PRICE):
            raise msgspec.ValidationError("expected `decimal`")
        return read
    except msgspec.ValidationError as error:
        faults.append(Fault(path + _origin(value), _expected(value, kind, str(error))))
        return NODEFAULT


def _split(text: str) -> list[str]:
    return [stripped for part in text.split(",") if (stripped := part.strip())]


def _meaning(tree: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield what is well formed and yet cannot work."""
    origins = _at(tree, "server", "origins")
    for origin in _split(origins) if isinstance(origins, _Override) else origins if isinstance(origins, list) else ():
        if isinstance(origin, str) and parse(origin) is None:
            yield Fault("server.origins", f'{origin!r} is no origin; write it as browsers do: "https://app.example"')
    for tier in ("small", "large"):
        yield from _model_meaning(_at(tree, "models", tier), f"models.{tier}", environ)
    ids = [_at(tree, "models", tier, "model") for tier in ("small", "large")]
    if ids[0] == ids[1] is not None:
        yield Fault("models.large.model", f"{ids[1]!r} is the small model's name too; the two must differ")
    names = [*RESERVED, *(id_ for id_ in ids if isinstance(id_, str))]
    aliases = _at(tree, "models", "aliases")
    for alias, target in aliases.items() if isinstance(aliases, dict) else ():
        if alias in names:
            yield Fault(f"models.aliases.{alias}", f"{alias!r} is a model's own name; choose another")
        if isinstance(target, str) and target not in names:
            yield Fault(f"models.aliases.{alias}", f"{target!r} names no model; write one of {_list(names)}")


def _model_meaning(model: Any, path: str, environ: Mapping[str, str]) -> Iterator[Fault]:
    url = _at(model, "base_url")
    if isinstance(url, str) and not _is_http(url):
        yield Fault(f"{path}.base_url", f"{url!r} is not a URL; write http://HOST[:PORT]/v1 or https://...")
    name = _at(model, "model")
    if name in (*RESERVED, ""):
        yield Fault(f"{path}.model", f"{name!r} is no name of a provider's model; write the provider's own")
    variable = _at(model, "api_key_env")
    key = environ.get(variable) if isinstance(variable, str) else "-"
    if not key:
        advice = f"run: export {variable}=... (or leave api_key_env out)"
        yield Fault(f"{path}.api_key_env", f"the variable {variable} is not set; {advice}")
    elif not key.isprintable() or key != key.strip():
        yield Fault(f"{path}.api_key_env", f"the variable {variable} holds white space or control characters")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = not (parts.query or parts.fragment) and url.isprintable() and " " not in url
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:
        return False


def _expected(value: Any, kind: Any, message: str) -> str:
    if isinstance(kind, type) and issubclass(kind, Strategy):
        return f"{value!r} is not one of {_list(Strategy)}"
    if get_origin(kind) is Literal:
        return f"{value!r} is not one of {_list(get_args(kind))}"
    if wanted := re.match(r"[Ee]xpected `(\w+)[^`]*`( [<>=]+ [\d.]+)?", message):
        words = _WORDS.get(wanted[1], wanted[1])
        return f"expected {words}{wanted[2] or ''}, got {value!r}"
    return f"expected {_WORDS['decimal']}, got {value!r}"


def _example(path: str) -> str:
    key = path.rpartition(".")[2]
    examples = {
        "price": 'write dollars per million tokens: price = { input = "0.15", output = "0.60" }',
        "upstream": 'write upstream = "openai"',
        "base_url": 'write base_url = "https://HOST/v1"',
        "model": "write the provider's name for the model",
        "input": 'write dollars per million tokens, such as "0.15"',
        "output": 'write dollars per million tokens, such as "0.60"',
    }
    return examples.get(key, f"add a section [{path}]")


def _at(tree: Any, *path: str) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _origin(value: Any) -> str:
    return f" (from {value.origin})" if isinstance(value, _Override) else ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _list(names: Any) -> str:
    return ", ".join(map(str, names))


def _kind(value: Any) -> str:
    return next((name for kind, name in _KINDS.items() if isinstance(value, kind)), "a number")
