"""A text that a simple regular expression matches, for the `pattern` of a JSON schema."""

import importlib
import re
from collections.abc import Callable
from typing import Any

_parser: Any = importlib.import_module("re._parser")
_CATEGORIES = {"CATEGORY_DIGIT": "0", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " "}
_OTHERS = "a0-. _A"  # tried where an expression excludes characters
MOST = 1000  # repetitions


def matching(pattern: str, least: int = 0) -> str | None:
    """Return a text of at least `least` characters that the pattern matches; None if it is too difficult."""
    try:
        expression, tree = re.compile(pattern), _parser.parse(pattern)
        for more in (0, 1, least):  # how often what may be left out is repeated
            text = _text(tree, min(more, MOST))
            if len(text) >= least and expression.search(text):
                return text
    except (re.error, RecursionError, ValueError, OverflowError, StopIteration, RuntimeError):
        pass
    return None


def _text(tree: Any, more: int) -> str:
    return "".join(_one(str(kind), value, more) for kind, value in tree)


def _one(kind: str, value: Any, more: int) -> str:
    """Return a text for one node of the parsed expression. Raises `ValueError` for what has no simple one."""
    if kind not in _WRITERS:
        raise ValueError(kind)
    return _WRITERS[kind](value, more)


def _repeated(value: Any, more: int) -> str:
    least, most, tree = value
    times: int = max(least, min(int(most), more, MOST))
    return _text(tree, more) * times


def _of_set(members: list[tuple[object, Any]]) -> str:
    kind, value = members[0]
    if str(kind) == "NEGATE":
        excluded = re.compile(f"[{re.escape(''.join(_of_set([member]) for member in members[1:]))}]")
        return next(other for other in _OTHERS if not excluded.match(other))
    return chr(value[0]) if str(kind) == "RANGE" else _one(str(kind), value, 0)


_WRITERS: dict[str, Callable[[Any, int], str]] = {
    "LITERAL": lambda value, _: chr(value),
    "NOT_LITERAL": lambda value, _: next(other for other in _OTHERS if ord(other) != value),
    "ANY": lambda _, __: "a",
    "AT": lambda _, __: "",
    "IN": lambda value, _: _of_set(value),
    "CATEGORY": lambda value, _: _CATEGORIES.get(str(value), "-"),
    "BRANCH": lambda value, more: _text(value[1][0], more),
    "SUBPATTERN": lambda value, more: _text(value[3], more),
    **dict.fromkeys(("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"), _repeated),
}
