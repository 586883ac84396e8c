"""Fields that Millrace does not read: they are passed on to the provider, or noted where they have no place there.

Nothing that a client sends is dropped in silence. Null is the same as nothing.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from msgspec import Struct

from millrace.errors import invalid
from millrace.types import Path, Unread

_OURS = frozenset({"millrace", "extra_body"})
# What answers have and no request takes: SDKs send it back with their history.
_OF_ANSWERS = frozenset(
    {"annotations", "created_by", "encrypted_content", "logprobs", "parsed", "parsed_arguments", "phase"}
)
OwnFieldsByPlace = dict[Path, dict[str, Any]]  # () is the answer, ("tool_calls", 0) its first call
_INDEX = re.compile(r"\[\d+\]")
_NESTED = (Struct, list)  # what may have fields that were not read


def passed_on(
    fields: dict[str, Any], read: Collection[str], *, lost: Collection[str] = ()
) -> tuple[dict[str, Any], list[Path]]:
    """Return the fields of a body that go to the provider as they are, and the paths of those that cannot.

    `read` are the names of the fields that the dialect reads, `lost` those that chat completions have no place for.
    `extra_body` is where some clients put a vendor's fields; raises `invalid_request` for one there that is read.
    """
    extra = fields.get("extra_body")
    if isinstance(extra, dict):
        for name in extra:
            if name in read or name in _OURS:
                path = f"extra_body.{name}"
                raise invalid(path, f"{path}: write {name} at the top of the body, not in extra_body")
        fields = fields | extra
    elif extra is not None:
        raise invalid("extra_body", "extra_body: expected an object; write the fields at the top of the body")
    unread = {
        name: value
        for name, value in fields.items()
        if name not in read and name not in _OURS and value is not None and not (name in lost and is_absent(value))
    }
    passed = {name: value for name, value in unread.items() if name not in lost}
    return passed, [(name,) for name in unread if name in lost]


def unread(given: Any, read: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the fields of a JSON value that are not in what it was read to: the path of each, and its value."""
    if isinstance(read, Struct):
        known, tag = read.__struct_fields__, read.__struct_config__.tag_field
        for name, value in given.items():
            if name in known:
                inner = getattr(read, name)
                if isinstance(inner, _NESTED):
                    yield from unread(value, inner, (*at, name))
            elif name != tag and value is not None:
                yield (*at, name), value
    elif isinstance(read, list):
        for index, (value, inner) in enumerate(zip(given, read, strict=True)):
            if isinstance(inner, _NESTED):
                yield from unread(value, inner, (*at, index))


def by_index(left: Iterable[tuple[Path, Any]], name: str) -> dict[int, Unread]:
    """Return the extras within the elements of a list, by index, with their paths from there on."""
    found: dict[int, list[tuple[Path, Any]]] = {}
    for path, value in left:
        if path[0] == name and len(path) > 1:
            found.setdefault(int(path[1]), []).append((path[2:], value))
    return {index: tuple(extras) for index, extras in found.items()}


def placed(extras: Unread, at: Path) -> tuple[Unread, list[Path]]:
    """Return the extras that are sent, and the paths in the request of those that cannot be. `at` is where they are."""
    sent = tuple((path, value) for path, value in extras if not _is_of_answers(path))
    lost = [(*at, *path) for path, value in extras if _is_of_answers(path) and not is_absent(value)]
    return sent, lost


def parted(extras: Iterable[tuple[Path, Any]]) -> tuple[OwnFieldsByPlace, Unread]:
    """Return the extras of an answer that stand beside it and beside its calls, and those that are within them.

    The former are a provider's own fields, and not every provider takes them. What is empty is nothing.
    """
    own_fields: OwnFieldsByPlace = {}
    within: list[tuple[Path, Any]] = []
    for path, value in extras:
        *place, name = path
        if place and (place[0] != "tool_calls" or len(place) > 2):  # noqa: PLR2004 - deeper than the call
            within.append((path, value))
        elif value not in (None, [], {}, ""):
            own_fields.setdefault(tuple(place), {})[str(name)] = value
    return own_fields, tuple(within)


def _is_of_answers(path: Path) -> bool:
    return path[-1] in _OF_ANSWERS or (path[0] == "tool_calls" and path[2:] == ("index",))


def is_absent(value: Any) -> bool:
    """Whether a value of a field that has no place asks for nothing."""
    return value is None or value is False or value in ([], {}, "", "disabled")


def told(lost: Collection[Path]) -> tuple[str, ...]:
    """Return the paths of fields that are not passed on; those that differ in an index only are told together."""
    alike: dict[str, list[str]] = {}
    for path in lost:
        given = written(path)
        alike.setdefault(_INDEX.sub("[]", given), []).append(given)
    return tuple(f"{first} and {len(rest)} more" if rest else first for first, *rest in alike.values())


def written(path: Path) -> str:
    """Return a path as errors and notes name it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
