"""A TOML file and `MILLRACE__SECTION__KEY` variables become frozen `Settings`. All faults are reported at once.

msgspec stops at the first fault, so the tree is walked here, field by field, and msgspec converts only the leaves.
"""

import copy
import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct

from millrace.settings import price_list
from millrace.settings.budgets import invalid_budgets, whole_shares
from millrace.settings.faults import Fault, Override, SettingsError, at, join, listed, origin, split
from millrace.settings.sections import ServerSettings, Settings, SharedSettings
from millrace.settings.shared import invalid_shared
from millrace.settings.telemetry import invalid_telemetry
from millrace.settings.values import invalid_values
from millrace.types import Strategy

ENV_PREFIX = "MILLRACE__"
NO_FLAGS: Mapping[str, str] = {}
MAX_PRICE = 1_000_000  # dollars per million tokens

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


def load(path: Path, environ: Mapping[str, str] = os.environ, flags: Mapping[str, str] = NO_FLAGS) -> Settings:
    """Read a TOML file, the environment and flags (`server.port` -> text). Raises `SettingsError` with all faults."""
    return build(_tree(path), environ, flags)


def _tree(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise SettingsError(
            [Fault(str(path), "no such file; name one with --config FILE, or write one: millrace init")]
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([Fault(str(path), f"not read as TOML: {error}")]) from None


def data_dir_of(path: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Return the folder that a configuration names, whatever else is wrong with it. Raises `SettingsError`."""
    named = environ.get(f"{ENV_PREFIX}SERVER__DATA_DIR") or at(_tree(path), "server", "data_dir")
    return named if isinstance(named, str) else ServerSettings().data_dir


def shared_of(path: Path, environ: Mapping[str, str] = os.environ) -> SharedSettings:
    """Return what a configuration names to be shared, whatever else is wrong with it. Raises `SettingsError`."""
    tree, faults = _tree(path), list[Fault]()
    for name, text in environ.items():
        if name.startswith(f"{ENV_PREFIX}SHARED__"):
            _override(tree, name.removeprefix(ENV_PREFIX).lower().split("__"), Override(text, name), faults)
    section = at(tree, "shared")
    values = _walk(section if isinstance(section, dict) else {}, SharedSettings, "shared", faults)
    faults += invalid_shared(tree)
    if faults:
        raise SettingsError(faults)
    return msgspec.convert(values, SharedSettings)


def build(
    tree: dict[str, Any], environ: Mapping[str, str] = os.environ, flags: Mapping[str, str] = NO_FLAGS
) -> Settings:
    """Build settings from a parsed file, the environment and flags. Each takes precedence over the one before it."""
    faults: list[Fault] = []
    tree = copy.deepcopy(tree)
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX):
            _override(tree, name.removeprefix(ENV_PREFIX).lower().split("__"), Override(text, name), faults)
    for path, text in flags.items():
        keys = path.split(".")
        _override(tree, keys, text if isinstance(text, Override) else Override(text, f"--{keys[-1]}"), faults)
    faults += price_list.fill(tree)
    whole_shares(tree)
    values = _walk(tree, Settings, "", faults)
    for fault in (
        *invalid_values(tree, environ),
        *invalid_budgets(tree, environ),
        *invalid_telemetry(tree, environ),
        *invalid_shared(tree),
    ):
        value = at(tree, *fault.path.split("."))
        faults.append(Fault(fault.path + origin(value), fault.message))
    if faults:
        raise SettingsError(faults)
    return msgspec.convert(values, Settings)


def _override(tree: dict[str, Any], keys: list[str], value: Override, faults: list[Fault]) -> None:
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
        advice = f'{price_list.WRITE}, or price = "auto"' if path.endswith(".price") else f"write [{path}]"
        faults.append(Fault(path + origin(tree), f"expected a section, got {_value_name(tree)}; {advice}"))
        return {}
    fields = {field.name: field for field in msgspec.structs.fields(shape)}
    for name in (key for key in tree if key not in fields):
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(fields)}"
        faults.append(Fault(join(path, name), f"unknown key{origin(tree[name])}; {hint}"))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        field_path = join(path, name)
        if name not in tree:
            if field.required:
                faults.append(Fault(field_path, f"missing; {_example(field_path)}"))
        elif (section := _section_in(field.type, dict)) is not None and isinstance(tree[name], dict):
            values[name] = {
                key: _walk(each, section, join(field_path, key), faults) for key, each in tree[name].items()
            }
        elif (section := _section_in(field.type, tuple)) is not None and isinstance(tree[name], list):
            values[name] = [_walk(each, section, f"{field_path}[{at}]", faults) for at, each in enumerate(tree[name])]
        elif (section := section_of(field.type)) is not None and get_origin(field.type) is not tuple:
            values[name] = _walk(tree[name], section, field_path, faults)
        else:
            values[name] = _leaf(tree[name], field.type, field_path, faults)
    return values


def section_of(kind: Any) -> type[Struct] | None:
    """Return the struct of a section, which may be optional, or of each section in a list; None if the key is none."""
    kinds = (kind, *get_args(kind)) if get_origin(kind) is not dict else ()
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, Struct)), None)


def _section_in(kind: Any, container: type) -> type[Struct] | None:
    """Return the struct of the sections in a table or a list of them; None if it is none."""
    kinds = get_args(kind) if get_origin(kind) is container else ()
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, Struct)), None)


def _leaf(value: Any, kind: Any, path: str, faults: list[Fault]) -> Any:
    try:
        if isinstance(value, Override):
            is_list = get_origin(kind) is tuple  # written as "a, b"
            converted = msgspec.convert(split(value) if is_list else str(value), kind, strict=False)
        else:
            converted = msgspec.convert(value, kind)
        if isinstance(converted, Decimal) and not (converted.is_finite() and 0 <= converted <= MAX_PRICE):
            raise msgspec.ValidationError("expected `decimal`")
        return converted
    except msgspec.ValidationError as error:
        faults.append(Fault(path + origin(value), _expected(value, kind, str(error))))
        return NODEFAULT


def _expected(value: Any, kind: Any, message: str) -> str:
    if isinstance(kind, type) and issubclass(kind, Strategy):
        return f"{value!r} is not one of {listed(Strategy)}"
    if _section_in(kind, tuple) is not None:
        return "expected a list of sections; write [[...]] over each"
    for choice in (kind, *get_args(kind)):
        if get_origin(choice) is Literal:
            wrong = (each for each in value.values() if each not in get_args(choice)) if isinstance(value, dict) else ()
            return f"{next(iter(wrong), value)!r} is not one of {listed(get_args(choice))}"
    if expected := re.match(r"[Ee]xpected `(\w+)[^`]*`( [<>=]+ [\d.]+)?", message):
        name = _TYPE_NAMES.get(expected[1], expected[1])
        return f"expected {name}{expected[2] or ''}, got {value!r}"
    return f"expected {_TYPE_NAMES['decimal']}, got {value!r}"


def _example(path: str) -> str:
    key = path.rpartition(".")[2]
    examples = {
        "upstream": 'write upstream = "openai", "responses" or "anthropic"',
        "base_url": 'write base_url = "https://HOST/v1"',
        "name": 'write name = "..."',
        "model": "write the provider's name for the model",
        "input": 'write dollars per million tokens, such as "0.15"',
        "dimensions": "write how many numbers its vectors have, such as 1536",
        "output": 'write dollars per million tokens, such as "0.60"',
    }
    return examples.get(key, f"add a section [{path}]")


def _value_name(value: Any) -> str:
    return next((name for kind, name in _VALUE_NAMES.items() if isinstance(value, kind)), "a number")
