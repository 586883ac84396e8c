"""A TOML file and `MILLRACE__SECTION__KEY` variables become frozen `Settings`. All faults are reported at once.

msgspec stops at the first fault, so the tree is walked here, field by field, and msgspec converts only the leaves.
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

from millrace.access.origins import parse
from millrace.types import STANDARD_TIERS, Strategy
from millrace.wire import limits

ENV_PREFIX = "MILLRACE__"
NO_FLAGS: Mapping[str, str] = {}
RESERVED = ("auto", "small", "large")
IN_MEMORY = ":memory:"  # a data_dir that stores nothing
MAX_PRICE = 1_000_000  # dollars per million tokens

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Wait = Annotated[int, Meta(ge=0, le=60_000)]
Seconds = Annotated[float, Meta(gt=0)]
Line = Annotated[str, Meta(min_length=1)]

Provider = Literal[
    "auto", "openai", "azure", "gemini", "xai", "deepseek", "mistral", "groq", "kimi", "openrouter", "together", "vllm",
    "ollama", "llamacpp",
]  # fmt: skip

BRIEFLY = "Answer as briefly as the question allows: no preamble, no repetition of the question, no closing remarks."


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen, where to store data, and the limits of the process."""

    host: str = "127.0.0.1"
    port: Port = 8000
    data_dir: str = ".millrace"  # ":memory:" stores nothing
    memory_bytes: Annotated[int, Meta(ge=16 * 2**20)] = 2**30  # of all stores, queues and caches in memory
    max_running: Count = 4096  # requests at once in this process
    max_connections: Count = 10_000  # WebSockets at once in this process
    origins: tuple[str, ...] = ()  # pages that may connect, such as "https://app.example"
    handshake_timeout_s: Seconds = 10  # for the complete head of a request to arrive
    max_message_bytes: Annotated[int, Meta(ge=1024, le=64 * 2**20)] = limits.MAX_MESSAGE_BYTES
    upstream_client: Literal["httptools", "aiohttp"] = "httptools"  # a proxy is always reached over aiohttp
    max_age_s: Seconds = limits.MAX_AGE_S  # of a connection
    stuck_s: Seconds = limits.STUCK_S  # for which a client may read nothing, or send a message (`LEAST_RATE`)
    drain_s: Annotated[float, Meta(ge=0)] = 30  # for running requests to end at shutdown
    store_ttl_s: Seconds = 30 * 86_400  # how long a response with `store: true` is kept
    store_bytes: Count = 2**30  # of all stored responses


class PriceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None  # of input that the provider writes to its cache
    cache_write_1h: Decimal | None = None  # to be kept for an hour


class QuirksSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the provider of a model differs from the preset of its name. A key that is left out is the preset's."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    reasoning_content: Literal["no", "yes", "calls"] | None = None  # of earlier answers: whether it goes back
    reasoning_fields: tuple[Literal["reasoning_content", "reasoning"], ...] | None = None  # under which names
    system_role: Literal["system", "developer"] | None = None
    call_ids: Literal["any", "short", "nine"] | None = None  # which ids of tool calls it takes
    tool_names: bool | None = None  # whether the result of a call repeats the function's name
    empty_content: bool | None = None  # whether an answer that only calls has the content "", not null
    signatures: bool | None = None  # whether calls that another model made need a thought signature
    own_fields: tuple[str, ...] | None = None  # which fields of a provider's own go back to it; "*": all
    thinking: Literal["adaptive", "budget"] | None = None  # Messages API: how it is told to think
    system_turns: bool | None = None  # Messages API: whether instructions may stand between turns
    output_limit: Count | None = None  # Messages API: the most tokens of output that may be asked for
    drop: tuple[str, ...] | None = None  # fields that are not sent, such as "stream_options" and "assistant.name"


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One upstream model."""

    upstream: Literal["openai", "responses", "anthropic"]  # its API: chat completions, OpenAI's Responses, or Messages
    base_url: str
    model: str
    price: PriceSettings  # of the standard service tier
    tier_prices: dict[str, PriceSettings] = {}  # of others, such as "flex"; a tier without a price is not asked for
    api_key_env: str | None = None
    context_window: Count = 128_000  # tokens
    max_output_tokens: Count | None = None  # of an answer; None: no cap
    cap_tool_calls: bool = False  # whether the cap also holds where a tool may be called: it cuts the call's arguments
    provider: Provider = "auto"
    quirks: QuirksSettings = QuirksSettings()
    connect_timeout_s: Seconds = 10
    first_token_timeout_s: Seconds = 60
    stall_timeout_s: Seconds = 30  # between two reads


class EmbeddingsPriceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens."""

    input: Decimal


class EmbeddingsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that `POST /v1/embeddings` is passed on to."""

    base_url: str
    model: str
    price: EmbeddingsPriceSettings
    api_key_env: str | None = None
    connect_timeout_s: Seconds = 10
    timeout_s: Seconds = 60  # for the whole answer


class ModelsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The two models, and other names clients may use for them. The alias `*` is any name that is not known."""

    small: ModelSettings
    large: ModelSettings
    embeddings: EmbeddingsSettings | None = None
    aliases: dict[str, str] = {}


class FunnelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests are routed."""

    strategy: Strategy = Strategy.AUTO
    context_budget: Count | None = None  # tokens of context and history; None: what the models take
    grace_ms: Wait = 300  # race: how long after the small model's first token the large one can still win
    hedge_ms: Wait = 800  # hedge: how long small may be silent before large is started too
    concise_line: Line = BRIEFLY  # the instruction that `concise` adds


class EmbedderSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model for embeddings that finds near questions in place of what is installed. What it costs is in no ledger."""

    base_url: str
    model: str
    dimensions: Count  # of its vectors
    shortened: bool = False  # whether the model is asked for vectors of that length
    api_key_env: str | None = None
    connect_timeout_s: Seconds = 10
    timeout_s: Seconds = 0.5  # that a lookup waits for it, and so a question that has no near one


class CacheSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caches."""

    exact: bool = True
    semantic: bool = True
    index_above: Count = 4000  # entries from which a scope of the semantic cache is indexed by hnswlib
    hot_scopes: Count = 256  # scopes of the semantic cache held in memory
    semantic_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None  # of a hit; None: the one that is shipped
    max_wrong_hit_rate: Annotated[float, Meta(gt=0, lt=1)] = 0.01  # of semantic hits; what evidence steers by
    embedder: EmbedderSettings | None = None
    ttl_s: Seconds = 86_400
    memory_bytes: Count = 256 * 2**20  # of both caches together
    disk_bytes: Count = 2**30  # of both caches together


Share = Annotated[float, Meta(ge=0, le=1)]


class EvidenceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often answers are asked for once more to be judged, by whom, and for how much."""

    judged: bool = True  # False: nothing is sampled, judged or learned
    hit_share: Share = 0.1  # of semantic hits that are answered once more
    small_share: Share = 0.01  # of answers of the small model, for which the large one is asked too
    large_share: Share = 0.01  # of requests that went to the large model at once, for which the small one is asked too
    dollars_per_day: Decimal = Decimal(1)  # for all of that, of a UTC day
    model_judge: Literal["none", "small", "large"] = "none"  # a model that judges what other judges leave open
    checked_share: Share = 0.05  # of what a judge has decided, of which a dearer one is asked too
    keep_days: Count = 30


class LimitsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Default limits: they apply where a key sets none of its own. A limit that is left out is unlimited."""

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
    evidence: EvidenceSettings = EvidenceSettings()
    limits: LimitsSettings = LimitsSettings()


class Fault(Struct, frozen=True):
    """One fault: the path of the key, and what to write instead."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SettingsError(Exception):
    """All faults of a configuration."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


_TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text in quotes",
    "decimal": 'dollars such as "0.15"',
    "object": "a section",
    "array": "a list in brackets",
}
_VALUE_NAMES = {str: "a string", bool: "a boolean", list: "an array"}


class _Override(str):
    """A text from a variable or a flag, which is named by `origin`. It is converted loosely: "8000" is a number."""

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, text: str, origin: str) -> Self:
        override = super().__new__(cls, text)
        override.origin = origin
        return override


def load(path: Path, environ: Mapping[str, str] = os.environ, flags: Mapping[str, str] = NO_FLAGS) -> Settings:
    """Read a TOML file, the environment and flags (`server.port` -> text). Raises `SettingsError` with all faults."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            [Fault(str(path), "no such file; name one with --config FILE, or write one: millrace init")]
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([Fault(str(path), f"not read as TOML: {error}")]) from None
    return build(tree, environ, flags)


def build(
    tree: dict[str, Any], environ: Mapping[str, str] = os.environ, flags: Mapping[str, str] = NO_FLAGS
) -> Settings:
    """Build settings from a parsed file, the environment and flags. Each takes precedence over the one before it."""
    faults: list[Fault] = []
    tree = copy.deepcopy(tree)
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX):
            _override(tree, name.removeprefix(ENV_PREFIX).lower().split("__"), _Override(text, name), faults)
    for path, text in flags.items():
        keys = path.split(".")
        _override(tree, keys, _Override(text, f"--{keys[-1]}"), faults)
    values = _walk(tree, Settings, "", faults)
    for fault in _invalid_values(tree, environ):
        value = _at(tree, *fault.path.split("."))
        faults.append(Fault(fault.path + _origin(value), fault.message))
    if faults:
        raise SettingsError(faults)
    return msgspec.convert(values, Settings)


def _override(tree: dict[str, Any], keys: list[str], value: _Override, faults: list[Fault]) -> None:
    *sections, key = keys
    for section in sections:
        subtree = tree.setdefault(section, {})
        if not isinstance(subtree, dict):
            faults.append(Fault(value.origin, f"{section} is not a section, so it has no key {key}"))
            return
        tree = subtree
    tree[key] = value


def _walk(tree: Any, shape: type[Struct], path: str, faults: list[Fault]) -> dict[str, Any]:
    """Check one section against its struct. Return the valid values."""
    if not isinstance(tree, dict):
        faults.append(Fault(path + _origin(tree), f"expected a section, got {_value_name(tree)}; write [{path}]"))
        return {}
    fields = {field.name: field for field in msgspec.structs.fields(shape)}
    for name in (key for key in tree if key not in fields):
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(fields)}"
        faults.append(Fault(_join(path, name), f"unknown key{_origin(tree[name])}; {hint}"))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        field_path = _join(path, name)
        if name not in tree:
            if field.required:
                faults.append(Fault(field_path, f"missing; {_example(field_path)}"))
        elif field.type == dict[str, PriceSettings] and isinstance(tree[name], dict):
            values[name] = {
                key: _walk(section, PriceSettings, _join(field_path, key), faults)
                for key, section in tree[name].items()
            }
        elif (section := section_of(field.type)) is not None:
            values[name] = _walk(tree[name], section, field_path, faults)
        else:
            values[name] = _leaf(tree[name], field.type, field_path, faults)
    return values


def section_of(kind: Any) -> type[Struct] | None:
    """Return the struct of a section, which may be optional; None if the key is none, or a table of sections."""
    kinds = (kind, *get_args(kind)) if get_origin(kind) is not dict else ()
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, Struct)), None)


def _leaf(value: Any, kind: Any, path: str, faults: list[Fault]) -> Any:
    try:
        if isinstance(value, _Override):
            is_list = get_origin(kind) is tuple  # written as "a, b"
            converted = msgspec.convert(_split(value) if is_list else str(value), kind, strict=False)
        else:
            converted = msgspec.convert(value, kind)
        if isinstance(converted, Decimal) and not (converted.is_finite() and 0 <= converted <= MAX_PRICE):
            raise msgspec.ValidationError("expected `decimal`")
        return converted
    except msgspec.ValidationError as error:
        faults.append(Fault(path + _origin(value), _expected(value, kind, str(error))))
        return NODEFAULT


def _split(text: str) -> list[str]:
    return [stripped for part in text.split(",") if (stripped := part.strip())]


def _invalid_values(tree: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield faults of values that have the right type and still cannot work."""
    origins = _at(tree, "server", "origins")
    for origin in _split(origins) if isinstance(origins, _Override) else origins if isinstance(origins, list) else ():
        if isinstance(origin, str) and parse(origin) is None:
            yield Fault("server.origins", f'{origin!r} is no origin; write it as browsers do: "https://app.example"')
    for tier in ("small", "large"):
        yield from _invalid_model(_at(tree, "models", tier), f"models.{tier}", environ)
    ids = [_at(tree, "models", tier, "model") for tier in ("small", "large")]
    if ids[0] == ids[1] is not None:
        yield Fault("models.large.model", f"{ids[1]!r} is also the small model's name; the two must differ")
    yield from _invalid_model(_at(tree, "models", "embeddings"), "models.embeddings", environ)
    yield from _invalid_model(_at(tree, "cache", "embedder"), "cache.embedder", environ)
    if (embeddings := _at(tree, "models", "embeddings", "model")) in ids and embeddings is not None:
        yield Fault("models.embeddings.model", f"{embeddings!r} is also another model's name; they must differ")
    ids.append(embeddings)
    names = [*RESERVED, *(id_ for id_ in ids if isinstance(id_, str))]
    aliases = _at(tree, "models", "aliases")
    for alias, target in aliases.items() if isinstance(aliases, dict) else ():
        if alias in names:
            yield Fault(f"models.aliases.{alias}", f"{alias!r} is the name of a model; choose another alias")
        if alias == "*" and target == embeddings is not None:
            yield Fault('models.aliases."*"', f"{target!r} makes embeddings; write one of {_list(RESERVED)}")
        if isinstance(target, str) and target not in names:
            yield Fault(f"models.aliases.{alias}", f"{target!r} names no model; write one of {_list(names)}")


def _invalid_model(model: Any, path: str, environ: Mapping[str, str]) -> Iterator[Fault]:
    url = _at(model, "base_url")
    if isinstance(url, str) and _has_credentials(url):
        advice = "put the key in a variable that api_key_env names"
        yield Fault(f"{path}.base_url", f"a user or password in a URL is not sent; write https://HOST/v1, and {advice}")
    elif isinstance(url, str) and not _is_http(url):
        yield Fault(f"{path}.base_url", f"{url!r} is not a URL; write http://HOST[:PORT]/v1 or https://...")
    name = _at(model, "model")
    if name in (*RESERVED, ""):
        yield Fault(f"{path}.model", f"{name!r} is not a provider's model name; write the provider's own")
    tiers = _at(model, "tier_prices")
    for tier in tiers if isinstance(tiers, dict) else ():
        if tier in STANDARD_TIERS:
            yield Fault(f"{path}.tier_prices.{tier}", f"{tier!r} is charged at the model's price; write it there")
    variable = _at(model, "api_key_env")
    key = environ.get(variable) if isinstance(variable, str) else "-"
    if not key:
        advice = f"run: export {variable}=... (or leave api_key_env out)"
        yield Fault(f"{path}.api_key_env", f"the variable {variable} is not set; {advice}")
    elif not (key.isascii() and key.isprintable()) or key != key.strip():
        yield Fault(f"{path}.api_key_env", f"the variable {variable} holds white space, or characters that no key has")


def _has_credentials(url: str) -> bool:
    """Whether a URL has a user or a password, which faults must not repeat. If it cannot be split, an @ says so."""
    if not _is_http(url):
        return "@" in url
    return "@" in urlsplit(url).netloc


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_plain = not (parts.query or parts.fragment) and url.isprintable() and " " not in url
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and is_plain
    except ValueError:
        return False


def _expected(value: Any, kind: Any, message: str) -> str:
    if isinstance(kind, type) and issubclass(kind, Strategy):
        return f"{value!r} is not one of {_list(Strategy)}"
    for choice in (kind, *get_args(kind)):
        if get_origin(choice) is Literal:
            return f"{value!r} is not one of {_list(get_args(choice))}"
    if expected := re.match(r"[Ee]xpected `(\w+)[^`]*`( [<>=]+ [\d.]+)?", message):
        name = _TYPE_NAMES.get(expected[1], expected[1])
        return f"expected {name}{expected[2] or ''}, got {value!r}"
    return f"expected {_TYPE_NAMES['decimal']}, got {value!r}"


def _example(path: str) -> str:
    key = path.rpartition(".")[2]
    examples = {
        "price": 'write dollars per million tokens: price = { input = "0.15", output = "0.60" }',
        "upstream": 'write upstream = "openai", "responses" or "anthropic"',
        "base_url": 'write base_url = "https://HOST/v1"',
        "model": "write the provider's name for the model",
        "input": 'write dollars per million tokens, such as "0.15"',
        "dimensions": "write how many numbers its vectors have, such as 1536",
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


def _value_name(value: Any) -> str:
    return next((name for kind, name in _VALUE_NAMES.items() if isinstance(value, kind)), "a number")
