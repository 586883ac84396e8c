"""The check that code in an answer parses: fenced blocks of Python, JSON and, where sqlglot is installed, SQL.

A block that is meant to be a part of something, or to show what goes wrong, parses no better for that. So nothing is
said of blocks with an ellipsis, a prompt, a placeholder or a diff, nor where the question is about code that fails.
"""

import ast
import importlib
import json
import re
import textwrap
import warnings
from functools import cache
from typing import Any

from millrace.funnel.checks.candidate import Candidate

LONGEST = 8000  # characters of a block that is parsed: some 10 ms
MOST = 8  # blocks of an answer that are parsed

_PYTHON = frozenset({"python", "py", "python3"})
_PARTIAL = re.compile(
    r"\.\.\.|…|^\s*(?:>>>|\$ |In \[|[+-]{3} |@@ )|<[A-Za-z_ -]+>|\{\{|\{%|^\s*[%!]\w|\bTODO\b|your[_ ]|"
    r"^\s*\[?(?:\.\.|//)|/\*",
    re.MULTILINE | re.IGNORECASE,
)
_ABOUT_FAULTS = re.compile(
    r"syntax ?error|invalid|python ?2|what(?:'s| is) wrong|error|bug|fail|broken|malformed|incorrect|"
    r"pseudo|template|jinja",
    re.IGNORECASE,
)


def code(candidate: Candidate) -> str:
    """Say whether a block of code does not parse. Takes some milliseconds for a long one."""
    if "```" not in candidate.text or _ABOUT_FAULTS.search(candidate.question):
        return ""
    for language, text in candidate.read.parts[1][:MOST]:
        if len(text) <= LONGEST and text.strip() and not _PARTIAL.search(text) and not _parses(language, text):
            return f"a block of {_named(language)} does not parse"
    return ""


def is_slow(candidate: Candidate) -> bool:
    """Whether parsing may take over a millisecond."""
    return "```" in candidate.text


def _named(language: str) -> str:
    return {"json": "JSON", "sql": "SQL"}.get(language, "Python")


def _parses(language: str, text: str) -> bool:
    if language in _PYTHON:
        return _is_python(text)
    if language == "json":
        return _is_json(text)
    return _is_sql(text) if language == "sql" else True


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of an escape in a string
            ast.parse(textwrap.dedent(text))
    except SyntaxError as error:  # a part of a function, with `return`, parses; an unknown newer grammar does not
        return "outside" in str(error)
    except (ValueError, RecursionError, MemoryError):  # too deep to tell
        return True
    return True


def _is_json(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    for one in (text, f"{{{text}}}", f"[{text}]"):  # also pairs, or values, that are part of something
        try:
            json.loads(one)
        except ValueError:
            continue
        except RecursionError:
            return True
        return True
    return len(lines) > 1 and all(map(_is_value, lines))  # one value a line


def _is_value(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


@cache
def _sqlglot() -> Any:
    """Return the package of the extra `sql`; without it, None, and nothing is said of SQL."""
    try:
        return importlib.import_module("sqlglot")
    except ImportError:
        return None


_DIALECTS = ("", "postgres", "mysql", "tsql", "bigquery", "snowflake")


def _is_sql(text: str) -> bool:
    sqlglot = _sqlglot()
    if sqlglot is None:
        return True
    for dialect in _DIALECTS:
        try:
            sqlglot.parse(text, read=dialect or None)
        except sqlglot.errors.SqlglotError:
            continue
        except RecursionError:
            return True
        return True
    return False
