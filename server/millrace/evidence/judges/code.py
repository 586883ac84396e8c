"""The code in an answer, and whether two pieces of it do the same."""

import ast
import re
import warnings
from enum import Enum, auto
from typing import Any

import orjson

_BLOCK = re.compile(r"^[ \t]*```[ \t]*([\w+#-]*)[^\n]*\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_PYTHON = frozenset({"python", "py", "python3"})
_TOKEN = re.compile(r"\w+|[^\w\s]")
_NAMING = frozenset(
    ["def", "function", "class", "const", "let", "var", "func", "fn", "sub", "as", "type", "struct", "#", "/", "-", "*"]
)
_FEWEST_TOKENS = 6  # of code in which one token makes the difference
LONGEST = 2000  # characters of code that is parsed: more takes over a millisecond


class Match(Enum):
    """How two pieces of code compare."""

    EQUAL = auto()
    OTHER = auto()  # they do or say something else
    UNKNOWN = auto()


def parted(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return an answer without its code blocks, and the blocks: language and code."""
    if "```" not in text:
        whole = text.strip()
        is_json = whole[:1] in {"{", "["} and whole[-1:] in {"}", "]"}
        return ("", [("json", whole)]) if is_json else (text, [])
    blocks = [(match[1].lower(), match[2].strip("\n")) for match in _BLOCK.finditer(text)]
    return _BLOCK.sub("\n", text), blocks


def spans(text: str) -> list[str]:
    """Return the code that is within lines."""
    return [" ".join(span.split()) for span in _SPAN.findall(text)] if "`" in text else []


def compared(one: tuple[str, str], two: tuple[str, str]) -> Match:
    """Compare two blocks: as JSON by value, as Python by syntax tree, else as written, but for white space."""
    if one[1].split() == two[1].split() and (one[1] == two[1] or not {one[0], two[0]} & _PYTHON):
        return Match.EQUAL
    if max(len(one[1]), len(two[1])) > LONGEST:
        return Match.UNKNOWN
    if {one[0], two[0]} == {"sql"} and one[1].lower().split() == two[1].lower().split():
        return Match.EQUAL
    values = _json(one[1]), _json(two[1])
    if None not in values:
        return Match.EQUAL if values[0] == values[1] else Match.OTHER
    if {one[0], two[0]} & _PYTHON:
        return _compared_python(one[1], two[1])
    return _compared_tokens(one[1], two[1])


def _compared_tokens(one: str, two: str) -> Match:
    """Tell apart two programs of which one token differs, unless that is a name that it gives."""
    left, right = _TOKEN.findall(one), _TOKEN.findall(two)
    if len(left) != len(right):
        return Match.UNKNOWN
    others = [at for at, token in enumerate(left) if token != right[at]]
    if len(others) != 1 or len(left) < _FEWEST_TOKENS:
        return Match.UNKNOWN
    return Match.UNKNOWN if left[others[0] - 1] in _NAMING else Match.OTHER


def _json(code: str) -> tuple[Any] | None:
    if code.strip()[:1] not in {"{", "["}:
        return None
    try:
        return (orjson.loads(code),)
    except orjson.JSONDecodeError:
        return None


def _compared_python(one: str, two: str) -> Match:
    left, right = _tree(one), _tree(two)
    if left is None or right is None:
        return Match.UNKNOWN
    if left[0] == right[0]:
        return Match.EQUAL
    # One program but for its numbers and operators.
    return Match.OTHER if left[1] == right[1] else Match.UNKNOWN


def _tree(code: str) -> tuple[str, str] | None:
    """Return the tree of a program, and the same without numbers and operators. Names of its own are numbered."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the program
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    _Renaming(tree).visit(tree)
    whole = ast.dump(tree)
    return whole, _blurred(whole)


_NUMBER = re.compile(r"Constant\(value=-?[\d.]+(?:e[+-]?\d+)?\)")
_OPERATOR = re.compile(r"\b(?:Add|Sub|Mult|Div|FloorDiv|Mod|Pow|Eq|NotEq|Lt|LtE|Gt|GtE|Is|IsNot|In|NotIn|And|Or)\(\)")


def _blurred(dumped: str) -> str:
    """Return a dumped tree with one number for all and one operator for all."""
    return _OPERATOR.sub("Operator()", _NUMBER.sub("Number()", dumped))


class _Renaming(ast.NodeTransformer):
    """Numbers the names that a program binds, but for those of its functions and classes; drops docstrings."""

    def __init__(self, tree: ast.AST) -> None:
        bound = dict.fromkeys(
            node.id if isinstance(node, ast.Name) else node.arg
            for node in ast.walk(tree)
            if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        )
        self._names = {name: f"_{number}" for number, name in enumerate(bound)}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self._names.get(node.arg, node.arg)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        if len(node.body) > 1 and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        self.generic_visit(node)
        return node
