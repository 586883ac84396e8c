"""The house's rules about itself: imports point down, files are small, names say something."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

SERVER = REPOSITORY / "server" / "millrace"
CLIENT = REPOSITORY / "client" / "millrace_client"

GROUND = {
    "beat",
    "children",
    "errors",
    "heap",
    "json_text",
    "levers",
    "log",
    "memory",
    "pricing",
    "principal",
    "pruning",
    "ranks",
    "tokens",
    "types",
}
ADAPTERS = {"caches", "schemas", "stores", "upstreams"}  # see ports and ground; only assembly sees them
NO_IO = {
    "access",
    "batches",
    "accounts",
    "dialects",
    "evidence",
    "funnel",
    "runs",
    "wire",
}  # what goes in and out is for the web and the adapters

# The rooms, highest first. A room may import those below it and the ground, which is below them all.
ROOMS = [
    "__main__",
    "cli",
    "app",
    "assembly",
    "settings",
    "web",
    "access",
    "batches",
    "runs",
    "dialects",
    "accounts",
    "telemetry",
    "funnel",
    "evidence",
    "wire",
    "ports",
]

IO_MODULES = {"aiohttp", "socket", "sqlite3", "starlette", "uvicorn", "websockets", "urllib", "http", "subprocess"}

CALLED = {"markdown_it_py": "markdown_it"}  # packages whose module is called otherwise

FILES = sorted([*SERVER.rglob("*.py"), *CLIENT.rglob("*.py")])


def room_of(path: Path) -> str:
    """Return the room that a file belongs to."""
    return path.relative_to(SERVER).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Return every dotted module a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    """Return the rooms of `millrace` that a file imports, other than its own."""
    named = {name.split(".")[1] for name in imports_of(path) if name.startswith("millrace.")}
    modules = {entry.stem for entry in SERVER.iterdir() if entry.stem != "__init__"}
    return (named & modules) - ({room_of(path)} if path.is_relative_to(SERVER) else set())


def allowed(room: str) -> set[str]:
    """Return what a room may import: what is below it, and never what is beside it or above."""
    if room == "__init__":
        return set()
    if room in GROUND or room == "simulator":
        return GROUND
    if room in ADAPTERS:
        return GROUND | {"ports"}
    more = {"assembly": ADAPTERS, "cli": {"simulator"}}
    return GROUND | {*ROOMS[ROOMS.index(room) + 1 :]} | more.get(room, set())


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(SERVER)], ids=str)
def test_imports_point_down(path: Path) -> None:
    """Never up, never sideways."""
    assert rooms_imported(path) <= allowed(room_of(path))


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(CLIENT)], ids=str)
def test_the_client_shares_the_wire_and_nothing_else(path: Path) -> None:
    """`millrace.wire`, `millrace.errors`, `millrace.types`."""
    assert rooms_imported(path) <= {"wire", "errors", "types"}


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(SERVER)], ids=str)
def test_the_funnel_and_what_is_about_it_do_no_io(path: Path) -> None:
    if room_of(path) in NO_IO:
        assert not {name.split(".")[0] for name in imports_of(path)} & IO_MODULES


def test_the_sizes() -> None:
    """`funnel.py` reads in one breath, no file passes 500 lines, the median file 150."""
    sources = [*FILES, *(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "static").glob("*.js")]
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in sources}
    assert {path: size for path, size in sizes.items() if size > 500} == {}
    assert sizes[SERVER / "funnel" / "funnel.py"] <= 200
    assert sorted(sizes[path] for path in FILES)[len(FILES) // 2] <= 150


def test_the_names() -> None:
    """No catch-alls."""
    banned = re.compile(r"(utils?|helpers?|managers?|handlers?|base|common|misc)$")
    assert [path for path in FILES if banned.match(path.stem)] == []


def test_core_dependencies_are_the_ones_imported() -> None:
    """Nothing is asked for that is not used, nothing used that is not asked for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {re.split(r"[>=;\s]", line)[0].replace("-", "_") for line in project["dependencies"]}
    asked = {CALLED.get(name, name) for name in asked}
    used = {name.split(".")[0] for path in FILES for name in imports_of(path)}
    assert asked <= used
