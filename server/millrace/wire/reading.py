"""JSON to typed values; what does not fit is refused with the path of the fault and what to write instead."""

import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from millrace.errors import MillraceError, invalid

MAX_DEPTH = 100  # of arrays and objects in each other; what is read must also be written again, by recursion
MAX_SHOWN = 60  # characters of a value in a message about it

_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "list": "an array",
    "object": "an object",
    "dict": "an object",
    "NoneType": "null",
    "null": "null",
}
_Value = TypeVar("_Value")


def decode(raw: str | bytes, what: str = "a frame") -> dict[str, Any]:
    """Read a JSON object; `what` it is goes into the message where it is none.

    Raises `invalid_json` for what is no JSON, is nested more than 100 deep, or holds numbers or characters that
    cannot be; of a key given twice the last counts, as everywhere.
    """
    try:
        data = raw.encode() if isinstance(raw, str) else raw
        fields = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise MillraceError("invalid_json", f"not JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(fields)
    if not isinstance(fields, dict):
        raise MillraceError("invalid_request", f"{what} is a JSON object, not {json_name(fields)}")
    return fields


def convert(given: Any, shape: type[_Value], path: str = "", *, strict: bool = True) -> _Value:
    """Return a decoded value as its type; `path` is where in the request it stands.

    Not strict, the strings of metadata pass for numbers and booleans.
    """
    try:
        return msgspec.convert(given, shape, strict=strict)
    except msgspec.ValidationError as error:
        param, message = _explain(error, given, shape, path)
        raise invalid(param, f"{param}: {message}") from None


def json_name(value: object) -> str:
    """Return what JSON calls a value."""
    return "a number" if isinstance(value, int) and not isinstance(value, bool) else _NAMES[type(value).__name__]


def _too_deep() -> MillraceError:
    return MillraceError("invalid_json", f"not read: the JSON is nested more than {MAX_DEPTH} deep")


def _check_depth(value: Any) -> None:
    """Go down level by level: only arrays and objects are looked at, and nothing recurses."""
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        below: list[Any] = []
        for at in level:
            below += at.values() if type(at) is dict else at
        level = [child for child in below if type(child) in (dict, list)]


def _explain(error: msgspec.ValidationError, given: Any, shape: Any, path: str) -> tuple[str, str]:
    """Split a message of msgspec into the path of the fault and what is wrong there, in the words of JSON."""
    message, _, at = str(error).rpartition(" - at `$") if " - at `$" in str(error) else (str(error), "", "")
    at = at.removesuffix("`")
    if missing := re.search(r"missing required field `(\w+)`", message):
        return f"{path}{at}.{missing[1]}".lstrip("."), "missing"
    where = (path + at).lstrip(".")
    if wrong := re.match(r"Invalid (enum )?value (.*)", message, re.DOTALL):
        allowed = ", ".join(_allowed(given, shape, at))
        cut = wrong[2][:MAX_SHOWN]
        return where, f"{cut} is not one of {allowed}" if wrong[1] else f"{cut} is not supported; write {allowed}"
    message = re.sub(r"`([^`]+)`", lambda names: _named(names[1]), message)
    return where, message[:1].lower() + message[1:]


def _named(types: str) -> str:
    names = [name for name in types.split(" | ") if name != "null"] or ["null"]
    return " or ".join(_NAMES.get(name, name) for name in names)


def _allowed(given: Any, shape: Any, at: str) -> list[str]:
    """Return what may be written at a path of a shape: the values of an enumeration, or the tags of its structs."""
    found = _flat(inspect.type_info(shape))
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", at):
        found = [below for info in found for below in _below(info, name, given)]
        given = given[name] if name else given[int(index)]
    return list(dict.fromkeys(str(value) for info in found for value in _values(info)))


def _flat(info: inspect.Type) -> list[inspect.Type]:
    if isinstance(info, inspect.UnionType):
        return [one for part in info.types for one in _flat(part)]
    return _flat(info.type) if isinstance(info, inspect.Metadata) else [info]


def _below(info: inspect.Type, name: str, given: Any) -> list[inspect.Type]:
    match info:
        case inspect.ListType() if not name:
            return _flat(info.item_type)
        case inspect.StructType() if name == info.tag_field:
            return [inspect.LiteralType((info.tag,))]
        case inspect.StructType() if info.tag in (None, given.get(info.tag_field, info.tag)):
            return [one for field in info.fields if field.encode_name == name for one in _flat(field.type)]
    return []


def _values(info: inspect.Type) -> list[object]:
    match info:
        case inspect.LiteralType():
            return list(info.values)
        case inspect.EnumType():
            return [member.value for member in info.cls]
    return []
