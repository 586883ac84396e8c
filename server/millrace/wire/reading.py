"""JSON to typed values. Errors name the path of the field and say what to write instead."""

import codecs
import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from millrace.errors import MillraceError, invalid
from millrace.wire import limits

LONG = 16 * 1024  # bytes; reading more may take over 1 ms, so it runs off the event loop
_AT_ONCE = 2**20  # bytes that are looked at at once: each step holds Python's lock
MAX_DEPTH = 100  # of nested arrays and objects; encoding recurses, so a deeper value could overflow the stack
MAX_NAMES = 12  # that an error message tells
MAX_SHOWN = 60  # characters of a value in an error message

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
    """Decode a JSON object. `what` is its name in the error message. Of a duplicate key the last value counts.

    Raises `invalid_json` if it is not JSON, holds invalid numbers or characters, or is nested more than 100 deep;
    `invalid_request` if it is not an object, or holds more than 250,000 values.
    """
    try:
        data = raw.encode() if isinstance(raw, str) else raw
        if len(data) > 2 * limits.MAX_VALUES:  # a value takes two bytes
            _check_values(data)
        fields = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise MillraceError("invalid_json", f"not JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(fields)
    if not isinstance(fields, dict):
        raise MillraceError("invalid_request", f"{what} must be a JSON object, not {json_name(fields)}")
    return fields


def convert(given: Any, shape: type[_Value], path: str = "", *, strict: bool = True) -> _Value:
    """Convert a decoded value to a type. `path` is its path in the request. Raises `invalid_request`.

    If not `strict`, strings convert to numbers and booleans, for options in metadata.
    """
    try:
        return msgspec.convert(given, shape, strict=strict)
    except msgspec.ValidationError as error:
        param, message = _explain(error, given, shape, path)
        raise invalid(param, f"{param}: {message}") from None


def json_name(value: object) -> str:
    """Return the JSON type of a value, as error messages name it."""
    return "a number" if isinstance(value, int) and not isinstance(value, bool) else _NAMES[type(value).__name__]


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8. They are decoded piece by piece, so that other threads have their turn."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), _AT_ONCE):
            decoder.decode(data[at : at + _AT_ONCE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _check_values(data: bytes) -> None:
    """Raise if there are too many values, before any is made: decoding cannot be interrupted.

    Every value but the first of an array or object follows a comma, so the commas and brackets outside of strings bound
    the values.
    """
    import numpy as np  # noqa: PLC0415 - it takes its time, and is needed for long texts only

    values = at = is_inside = 0
    while at < len(data):
        end = at + _AT_ONCE
        while _ends_in_escape(data, at, end):
            end += 1
        piece = data[at:end].replace(b"\\\\", b"").replace(b'\\"', b"")  # no escaped quotes
        characters = np.frombuffer(piece, np.uint8)
        inside = (np.cumsum(characters == ord('"'), dtype=np.uint8) + np.uint8(is_inside)) & 1
        is_inside = int(inside[-1]) if len(inside) else is_inside
        counted = (characters == ord(",")) | (characters == ord("[")) | (characters == ord("{"))
        values += int(np.count_nonzero(counted & (inside == 0)))
        if values > limits.MAX_VALUES:
            raise MillraceError("invalid_request", f"too many JSON values; send at most {limits.MAX_VALUES:,}")
        at = end


def _ends_in_escape(data: bytes, start: int, end: int) -> bool:
    """Whether a piece ends in the middle of an escape. It must not start in one."""
    piece = data[start:end]
    return end < len(data) and (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1


def _too_deep() -> MillraceError:
    return MillraceError("invalid_json", f"the JSON is nested too deep; nest at most {MAX_DEPTH} arrays and objects")


def _check_depth(value: Any) -> None:
    """Raise if the value is nested too deep. It goes level by level: recursion could overflow the stack."""
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        children: list[Any] = []
        for node in level:
            children += node.values() if type(node) is dict else node
        level = [child for child in children if type(child) in (dict, list)]


def _explain(error: msgspec.ValidationError, given: Any, shape: Any, path: str) -> tuple[str, str]:
    """Return the path of the fault and a message with JSON's type names, both from msgspec's message."""
    message, _, suffix = str(error).rpartition(" - at `$") if " - at `$" in str(error) else (str(error), "", "")
    suffix = suffix.removesuffix("`")
    if missing := re.search(r"missing required field `(\w+)`", message):
        return f"{path}{suffix}.{missing[1]}".lstrip("."), "missing"
    param = (path + suffix).lstrip(".")
    if bad := re.match(r"Invalid (enum )?value (.*)", message, re.DOTALL):
        names = _allowed(given, shape, suffix)
        more = f" or {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        allowed = ", ".join(names[:MAX_NAMES]) + more
        shown = bad[2][:MAX_SHOWN]
        return param, f"{shown} is not one of {allowed}" if bad[1] else f"{shown} is not supported; write {allowed}"
    message = re.sub(r"`([^`]+)`", lambda names: _type_names(names[1]), message)
    return param, message[:1].lower() + message[1:]


def _type_names(types: str) -> str:
    names = [name for name in types.split(" | ") if name != "null"] or ["null"]
    return " or ".join(_NAMES.get(name, name) for name in names)


def _allowed(given: Any, shape: Any, path: str) -> list[str]:
    """Return the values allowed at a path inside a type: those of a literal or an enum, or the tags of its structs."""
    found = _flat(inspect.type_info(shape))
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        found = [child for info in found for child in _children(info, name, given)]
        given = given[name] if name else given[int(index)]
    return list(dict.fromkeys(str(value) for info in found for value in _values(info)))


def _flat(info: inspect.Type) -> list[inspect.Type]:
    if isinstance(info, inspect.UnionType):
        return [one for part in info.types for one in _flat(part)]
    return _flat(info.type) if isinstance(info, inspect.Metadata) else [info]


def _children(info: inspect.Type, name: str, given: Any) -> list[inspect.Type]:
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
