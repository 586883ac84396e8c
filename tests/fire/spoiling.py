"""Values and JSON texts that are almost right: the wrong type, a field too few, a bracket too many."""

import copy
import json
from random import Random
from typing import Any

DEEP = 3000
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1.5,
    -0.0,
    2**31,
    2**53 + 1,
    2**63,
    -(2**63) - 1,
    10**30,
    1e308,
    5e-324,
    "",
    " ",
    "0",
    "\x00",
    "\x7f\x1b[31m",
    "\ud800",  # half a character, which only an escape can write
    "\udfff\ud800",
    "\ufeffmarked",
    "a\u0301\u0301\u0301",
    "é" * 300,
    "x" * 5000,
    "A" * 70_000,
    [],
    {},
    [[]],
    [{}],
    {"": ""},
    {"type": "text"},
    {"type": "function_call"},
    {"$ref": "#"},
    {"$ref": "http://127.0.0.1:9/schema"},
    {"__proto__": {"polluted": True}},
    ["x"] * 3000,
    [0] * 2001,
    {str(number): number for number in range(400)},
)
PIECES = (
    '"',
    "\\",
    "\\u",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "NaN",
    "Infinity",
    "-",
    "1e999",
    "0x10",
    "00",
    "//",
    "\x00",
    "\n",
    "\ufeff",
    "'",
    "🙂",
)


def spoiled(value: Any, random: Random) -> Any:
    """Return a copy of a value with one to three faults."""
    whole = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        place, key = random.choice(_places(whole))
        _spoil(place, key, random)
    return whole[0] if whole else None


def text_of(value: Any, random: Random, share: float = 0.15) -> str:
    """Return a value as JSON; a share of the texts are broken themselves."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5 or _has_half_characters(value))
    return broken(text, random) if random.random() < share else text


def broken(text: str, random: Random) -> str:  # noqa: PLR0911 - one for each way to break it
    """Return a text of JSON with something in it changed that need not be JSON any more."""
    at = random.randrange(len(text) + 1)
    match random.randrange(8):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + random.choice(PIECES) + text[at:]
        case 2:
            return text[:at] + text[at + random.randrange(1, 9) :]
        case 3:
            return text[:at] + random.choice(PIECES) + text[at + 1 :]
        case 4:  # a name that comes twice
            return text.replace("{", '{"type": 7, "input": [], "input": "twice", ', 1)
        case 5:
            return "[" * DEEP + text + "]" * DEEP
        case 6:
            return text.replace("{", '{"x": ' + '{"x": ' * DEEP + "1" + "}" * DEEP + ", ", 1)
        case _:
            return random.choice(
                ("", " ", "null", "7", '"text"', "[]", "[" * DEEP, "{}" * 2, text + text, f"\ufeff{text}")
            )


def _places(whole: list[Any]) -> list[tuple[Any, Any]]:
    """Return where a value is: what holds it, and under which key."""
    found: list[tuple[Any, Any]] = [(whole, 0)]
    for holder, key in found:  # it grows meanwhile
        below = holder[key]
        if isinstance(below, dict):
            found += [(below, name) for name in below]
        elif isinstance(below, list):
            found += [(below, at) for at in range(min(len(below), 20))]
    return found


def _spoil(holder: Any, key: Any, random: Random) -> None:
    match random.randrange(8):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[random.choice(("type", "role", "content", "id", "n", "x" * 300, "\x00", ""))] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            name = random.choice(("unknown", "millrace", "stream_options", "logprobs", "n", "metadata"))
            holder[name] = copy.deepcopy(random.choice(STRANGE))
        case 3 if isinstance(holder, list) and holder[key] is not holder:
            holder[key:key] = [holder[key]] * random.choice((1, 2, 200))
        case 4:
            holder[key] = [holder[key]]
        case 5:
            holder[key] = {"type": holder[key]}
        case 6 if isinstance(holder[key], str | int | float):
            holder[key] = str(holder[key]) + random.choice(("", " ", "\x00", "0", "\ud800", "🙂" * 100))
        case _:
            holder[key] = copy.deepcopy(random.choice(STRANGE))


def _has_half_characters(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
