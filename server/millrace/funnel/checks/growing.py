"""Regular expressions against a text that still grows: whether one matches for good, and whether one still may.

Both questions are answered by expressions that are derived from the one in question (partial matching, as PCRE2 calls
it). `re` cannot do this, so its parse tree is written down again, with the end of the text allowed after every
character.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

_parser = importlib.import_module("re._parser")
_op = importlib.import_module("re._constants")

_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "a": re.ASCII, "u": re.UNICODE}
_CATEGORIES = {
    _op.CATEGORY_DIGIT: r"\d",
    _op.CATEGORY_NOT_DIGIT: r"\D",
    _op.CATEGORY_SPACE: r"\s",
    _op.CATEGORY_NOT_SPACE: r"\S",
    _op.CATEGORY_WORD: r"\w",
    _op.CATEGORY_NOT_WORD: r"\W",
}
_PLACES = {
    _op.AT_BEGINNING: "^",
    _op.AT_BEGINNING_STRING: r"\A",
    _op.AT_BOUNDARY: r"\b",
    _op.AT_NON_BOUNDARY: r"\B",
    _op.AT_END: "$",
    _op.AT_END_STRING: r"\Z",
}
_AT_THE_END = (_op.AT_END, _op.AT_END_STRING)
_BEGINNINGS = (_op.AT_BEGINNING, _op.AT_BEGINNING_STRING)
_REPEATS = {_op.MAX_REPEAT: "", _op.MIN_REPEAT: "?", _op.POSSESSIVE_REPEAT: "+"}
_NEVER = "(?!)"

Tree = Any  # of `re._parser`: a sequence of (operation, argument)
Node = tuple[Any, Any]


def sure(pattern: str) -> re.Pattern[str]:
    """Return an expression that matches a text where `pattern` does, whatever comes after the text."""
    tree = _parser.parse(pattern)
    return re.compile(_written(tree, _sure_place), _flags(tree))


def begun(pattern: str) -> re.Pattern[str]:
    """Return an expression that matches a text from where it ends in the middle of what `pattern` may match.

    Its match goes to the end of the text. A match of `pattern` that what comes next may still undo counts too.
    """
    tree = _parser.parse(pattern)
    return re.compile(rf"(?!\Z)(?:{_begun(tree)})", _flags(tree))


def scoped(pattern: str) -> str:
    """Return `pattern` written so that it can be a part of another one: its flags hold for it alone."""
    tree = _parser.parse(pattern)
    letters = _letters(tree.state.flags & (re.IGNORECASE | re.MULTILINE | re.DOTALL | re.ASCII))
    return f"(?{letters}:{_written(tree, _plain_place)})"


def widest(pattern: str) -> int | None:
    """Return how many characters decide whether `pattern` matches at a place, those that it looks at included.

    None: there is no such number. Raises `re.error`.
    """
    return _widest(_parser.parse(pattern))


def looks_elsewhere(pattern: str) -> bool:
    """Whether it refers to groups, or looks ahead or behind by more than the border of a word."""
    return _has(_parser.parse(pattern), (_op.GROUPREF, _op.GROUPREF_EXISTS, _op.ASSERT, _op.ASSERT_NOT))


def _flags(tree: Tree) -> int:
    return int(tree.state.flags & ~re.VERBOSE)


def _written(tree: Tree, place: "Callable[[Any], str]") -> str:
    """Write a sequence; `place` writes what matches no character."""
    return "".join(_node(node, place) for node in tree)


def _node(node: Node, place: "Callable[[Any], str]") -> str:
    operation, argument = node
    if operation is _op.BRANCH:
        return f"(?:{'|'.join(_written(each, place) for each in argument[1])})"
    if operation is _op.SUBPATTERN:
        return _group(argument, _written(argument[3], place))
    if operation is _op.ATOMIC_GROUP:
        return f"(?>{_written(argument, place)})"
    if operation in _REPEATS:
        least, most, inner = argument
        return f"(?:{_written(inner, place)}){_times(least, most)}{_REPEATS[operation]}"
    if operation in (_op.ASSERT, _op.ASSERT_NOT, _op.AT):
        return place(node)
    return _character(node)


def _plain_place(node: Node) -> str:
    operation, argument = node
    if operation is _op.AT:
        return _PLACES[argument]
    direction, inner = argument
    sign = "=" if operation is _op.ASSERT else "!"
    return f"(?{'<' if direction < 0 else ''}{sign}{_written(inner, _plain_place)})"


def _sure_place(node: Node) -> str:
    """Write what holds at a place only if no more text can undo it."""
    operation, argument = node
    if operation is _op.AT and argument in _AT_THE_END:
        return _NEVER
    if operation is _op.AT and argument not in _BEGINNINGS:
        return rf"(?:{_PLACES[argument]}(?!\Z))"
    if operation is _op.ASSERT_NOT and argument[0] > 0:
        return f"(?!{_written(argument[1], _plain_place)}|{_begun(argument[1])})"
    return _plain_place(node)


def _begun(tree: Tree) -> str:
    """Write what the text may end in the middle of. It matches nothing where the sequence is complete."""
    written = _NEVER
    for node in reversed(tree):
        parts = [part for part in (_begun_node(node), _then(node, written)) if part is not None]
        written = f"(?:{'|'.join(parts)})" if parts else _NEVER
    return written


def _then(node: Node, rest: str) -> str | None:
    return None if rest == _NEVER else _node(node, _plain_place) + rest


def _begun_node(node: Node) -> str | None:
    operation, argument = node
    if operation is _op.BRANCH:
        return f"(?:{'|'.join(map(_begun, argument[1]))})"
    if operation is _op.SUBPATTERN:
        return _group(argument, _begun(argument[3]))
    if operation is _op.ATOMIC_GROUP:
        return _begun(argument)
    return _begun_other(node)


def _begun_other(node: Node) -> str | None:
    operation, argument = node
    if operation in _REPEATS:
        _, most, inner = argument
        before = f"(?:{_written(inner, _plain_place)}){_times(0, most if most is _op.MAXREPEAT else most - 1)}"
        return f"(?:{before}{_begun(inner)})" if most else None
    if operation in (_op.ASSERT, _op.ASSERT_NOT):
        return _begun(argument[1]) if argument[0] > 0 else None
    return None if operation is _op.AT and argument in _BEGINNINGS else r"\Z"


def _group(argument: Any, written: str) -> str:
    _, added, taken, _ = argument
    return f"(?{_letters(added)}{'-' if taken else ''}{_letters(taken)}:{written})"


def _letters(flags: int) -> str:
    return "".join(letter for letter, flag in _FLAGS.items() if flags & flag)


def _times(least: int, most: Any) -> str:
    return f"{{{least},{'' if most is _op.MAXREPEAT else most}}}"


def _character(node: Node) -> str:
    operation, argument = node
    if operation is _op.LITERAL:
        return re.escape(chr(argument))
    if operation is _op.NOT_LITERAL:
        return f"[^{_in_set(chr(argument))}]"
    if operation is _op.ANY:
        return "."
    if operation is _op.IN:
        return f"[{''.join(map(_member, argument))}]"
    if operation is _op.FAILURE:
        return _NEVER
    raise re.error(f"{operation} is not supported")


def _member(member: Node) -> str:
    operation, argument = member
    if operation is _op.NEGATE:
        return "^"
    if operation is _op.RANGE:
        return f"{_in_set(chr(argument[0]))}-{_in_set(chr(argument[1]))}"
    return _CATEGORIES[argument] if operation is _op.CATEGORY else _in_set(chr(argument))


def _in_set(character: str) -> str:
    return character if character.isalnum() else f"\\U{ord(character):08x}"


def _widest(tree: Tree) -> int | None:
    """Count what a sequence takes; what it looks ahead at counts from where it looks."""
    taken, most = 0, 0
    for operation, argument in tree:
        width: int | None = 1
        if operation is _op.BRANCH:
            widths = [_widest(each) for each in argument[1]]
            width = None if None in widths else max(width for width in widths if width is not None)
        elif operation is _op.SUBPATTERN:
            width = _widest(argument[3])
        elif operation is _op.ATOMIC_GROUP:
            width = _widest(argument)
        elif operation in _REPEATS:
            inner = _widest(argument[2])
            width = None if inner is None or (inner and argument[1] is _op.MAXREPEAT) else inner * int(argument[1])
        elif operation in (_op.ASSERT, _op.ASSERT_NOT):
            ahead = _widest(argument[1]) if argument[0] > 0 else 0
            if ahead is None:
                return None
            width, most = 0, max(most, taken + ahead)
        elif operation in (_op.AT, _op.FAILURE):
            width = 0
        elif operation in (_op.GROUPREF, _op.GROUPREF_EXISTS):
            return None
        if width is None:
            return None
        taken += width
    return max(taken, most)


def _has(tree: Tree, operations: Sequence[Any]) -> bool:
    """Whether one of these operations is anywhere in a tree."""
    if isinstance(tree, list | tuple | _parser.SubPattern):
        return any(any(part is operation for operation in operations) or _has(part, operations) for part in tree)
    return False
