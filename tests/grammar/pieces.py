"""How providers cut text and tool calls into deltas."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from tests.grammar.truth import Made

Delta = dict[str, Any]
THOUGHT_NAMES = ("reasoning_content", "reasoning", "thinking")


def cut(random: Random, text: str, most: int = 5) -> list[str]:
    """Cut a text anywhere."""
    at = sorted(random.randint(0, len(text)) for _ in range(random.randint(0, most)))
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


def contents(random: Random, text: str) -> list[bytes]:
    """Return the JSON of `content` of the deltas of a text, in one of the forms."""
    match random.choice(["plain", "plain", "escaped", "parts", "part", "surrogates", "bytes"]):
        case "plain":
            return [json.dumps(piece, ensure_ascii=False).encode() for piece in cut(random, text)]
        case "escaped":
            return [json.dumps(piece).encode() for piece in cut(random, text)]
        case "parts":
            return [json.dumps([{"type": "text", "text": piece}]).encode() for piece in cut(random, text)]
        case "part":
            return [json.dumps({"type": "text", "text": piece}).encode() for piece in cut(random, text)]
        case "surrogates":
            raw = text.encode("utf-16-be")
            units = [raw[at : at + 2] for at in range(0, len(raw), 2)]
            return [b'"' + b"".join(map(_escaped, units[a:b])) + b'"' for a, b in _ranges(random, len(units))]
    raw = text.encode()
    return [_quoted(raw[a:b]) for a, b in _ranges(random, len(raw))]


def thoughts(random: Random, text: str) -> list[Delta]:
    """Return the deltas of a reasoning."""
    name = random.choice(THOUGHT_NAMES)
    pieces = cut(random, text, 3)
    if random.random() < 0.3:
        return [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]} for piece in pieces]
    if random.random() < 0.2:
        return [{"reasoning_details": [{"type": "reasoning.text", "text": piece}]} for piece in pieces]
    return [{name: piece} for piece in pieces]


def calls(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    """Return the deltas of tool calls, in one of the ways."""
    ways = [_usual, _whole, _no_index, _one_index, _no_ids, _no_ids_in_pieces, _late_name, _name_in_pieces, _repeated]
    ways += [_id_every_time, _index_every_time, _objects, _empty_first, _odd_indexes]
    if len(made) == 1:
        ways.append(_the_old_way)
    return [delta for delta in random.choice(ways)(random, made) if delta]


def _piece(index: Any = None, id_: str | None = None, name: str | None = None, arguments: Any = None) -> Delta:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    given = {"index": index, "id": id_, "type": "function", "function": function}
    return {"tool_calls": [{key: value for key, value in given.items() if value is not None}]}


def _empty(random: Random, made: Made) -> str | None:
    return made.arguments if made.arguments != "{}" else random.choice(["", "{}", None])


def _usual(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [
        delta
        for at, one in enumerate(made)
        for delta in (
            _piece(at, f"call_{at}", one.name, ""),
            *(_piece(at, arguments=piece) for piece in cut(random, one.arguments)),
        )
    ]


def _whole(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [_piece(at, f"call_{at}", one.name, _empty(random, one)) for at, one in enumerate(made)]


def _no_index(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [_piece(None, f"call_{at}", one.name, _empty(random, one)) for at, one in enumerate(made)]


def _one_index(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [_piece(0, f"call_{at}", one.name, _empty(random, one)) for at, one in enumerate(made)]


def _no_ids(_: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [_piece(0, "", one.name, one.arguments) for one in made]


def _no_ids_in_pieces(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [
        delta
        for at, one in enumerate(made)
        for delta in (_piece(at, "", one.name, ""), *(_piece(at, "", None, p) for p in cut(random, one.arguments)))
    ]


def _late_name(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    deltas = []
    for at, one in enumerate(made):
        first, *rest = cut(random, one.arguments)
        deltas += [_piece(at, f"call_{at}", None, first), _piece(at, None, one.name, "")]
        deltas += [_piece(at, arguments=piece) for piece in rest]
    return deltas


def _name_in_pieces(_: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [
        delta
        for at, one in enumerate(made)
        for delta in (_piece(at, f"call_{at}", one.name[:2]), _piece(at, None, one.name[2:], one.arguments))
    ]


def _repeated(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [
        _piece(at, f"call_{at}", one.name, piece) for at, one in enumerate(made) for piece in cut(random, one.arguments)
    ]


def _id_every_time(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [
        _piece(None, f"call_{at}", one.name if first else None, piece)
        for at, one in enumerate(made)
        for first, piece in zip([True, *[False] * 9], cut(random, one.arguments), strict=False)
    ]


def _index_every_time(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    deltas: list[Delta] = []
    for at, one in enumerate(made):
        half = len(one.arguments) // 2
        deltas.append(_piece(len(deltas), f"call_{at}", one.name, one.arguments[:half]))
        deltas.append(_piece(len(deltas), arguments=one.arguments[half:]))
    return deltas


def _objects(_: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [_piece(at, f"call_{at}", one.name, json.loads(one.arguments)) for at, one in enumerate(made)]


def _empty_first(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    return [
        delta
        for at, one in enumerate(made)
        for delta in (
            _piece(at, f"call_{at}", one.name, "{}"),
            *(_piece(at, arguments=piece) for piece in cut(random, one.arguments) if one.arguments != "{}"),
        )
    ]


def _odd_indexes(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    kinds: list[Callable[[int], Any]] = [str, float, lambda at: at + 7]
    kind = random.choice(kinds)
    return [_piece(kind(at), f"call_{at}", one.name, one.arguments) for at, one in enumerate(made)]


def _the_old_way(random: Random, made: tuple[Made, ...]) -> list[Delta]:
    (one,) = made
    first = {"function_call": {"name": one.name, "arguments": ""}}
    return [first, *({"function_call": {"arguments": piece}} for piece in cut(random, one.arguments))]


def _escaped(unit: bytes) -> bytes:
    return b"\\u%02x%02x" % (unit[0], unit[1])


def _quoted(raw: bytes) -> bytes:
    """Return bytes of UTF-8, which may be cut, as a JSON string."""
    for plain, escaped in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n")):
        raw = raw.replace(plain, escaped)
    return b'"' + raw + b'"'


def _ranges(random: Random, length: int) -> list[tuple[int, int]]:
    at = sorted(random.randint(0, length) for _ in range(random.randint(0, 5)))
    return [*zip([0, *at], [*at, length], strict=True)]
