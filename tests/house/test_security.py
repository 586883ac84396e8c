"""`docs/security.md`: every test that it names is there, and no point of a list is missing."""

import ast
import re

from tests.support.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


def functions(path: str) -> set[str]:
    """Return the names of the tests of a file."""
    tree = ast.parse((REPOSITORY / path).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    assert len(NAMED) > 40
    lost = [(path, name) for path, name in NAMED if not (REPOSITORY / path).is_file()]
    lost += [(path, name) for path, name in NAMED if name and (path, name) not in lost and name not in functions(path)]
    assert lost == []


def test_every_point_has_a_test() -> None:
    """Each row of the two lists names one."""
    lists = PAGE.partition("## WebSockets")[2].partition("## What is left")[0]
    rows = [line for line in lists.splitlines() if line.startswith("| ") and not line.startswith("| point")]
    assert len(rows) > 30
    assert [row for row in rows if "`tests/" not in row] == []
    assert re.findall(r"^\| (LLM\d\d)", lists, re.MULTILINE) == [f"LLM{number:02}" for number in range(1, 11)]
