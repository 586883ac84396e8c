"""The house's rules about itself: imports point down, files are small, names say something."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SERVER = REPOSITORY / "server" / "millrace"
CLIENT = REPOSITORY / "client" / "millrace_client"

# One line a layer, highest first; the modules of a line may not import each other.
LAYERS = [
    {"__main__"},
    {"keys_command"},
    {"app", "startup"},
    {"drain", "endpoints"},
    {"entrance", "handshake"},
    {"assembly"},
    {"session"},
    {"process"},
    {"delivery", "intake"},
    {"conversations"},
    {"runs"},
    {"completion", "projection"},
    {"outbox", "lanes", "transport"},
    {"held", "marks", "output", "track"},
    {"funnel"},
    {"choice", "race"},
    {"cascade", "flight"},
    {"attempts", "ending", "memory"},
    {"checks", "guards", "ledger", "prompt", "response", "routing"},
    {"catalog", "contracts", "fingerprint", "pricing", "tokens"},
    {"ranks"},
    {"gate"},
    {"sweeper", "tickets", "keys"},
    {"database"},
    {"ports"},
    {"wire", "log", "settings"},
    {"errors", "origins"},
    {"types", "principal"},
]
ADAPTERS = {"archives", "caches", "embedders", "keyrings", "ledgers", "limits", "upstreams"}
PURE = {"ports", "types", "principal", "errors", "log", "pricing", "tokens", "database", "guards"}
NO_IO_BELOW = {
    "funnel",
    "choice",
    "race",
    "flight",
    "memory",
    "prompt",
    "routing",
    "cascade",
    "attempts",
    "ending",
    "response",
    "checks",
    "guards",
    "ledger",
    "catalog",
    "contracts",
    "fingerprint",
    "pricing",
    "completion",
    "conversations",
    "held",
    "intake",
    "marks",
    "output",
    "projection",
    "runs",
    "track",
    "wire",
    "gate",
    "principal",
    "keys",
    "tickets",
    "origins",
}
IO_MODULES = {"aiohttp", "socket", "sqlite3", "starlette", "uvicorn", "websockets", "urllib", "http", "subprocess"}

FILES = sorted([*SERVER.rglob("*.py"), *CLIENT.rglob("*.py")])


def part_of(path: Path) -> str:
    """Return the module or package of `millrace` a file belongs to."""
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


def parts_imported(path: Path) -> set[str]:
    """Return the parts of `millrace` a file imports, other than its own."""
    named = {name.split(".")[1] for name in imports_of(path) if name.startswith("millrace.")}
    modules = {entry.stem for entry in SERVER.iterdir() if entry.stem != "__init__"}
    return (named & modules) - ({part_of(path)} if path.is_relative_to(SERVER) else set())


def rank(part: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if part in layer)


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(SERVER)], ids=str)
def test_imports_point_down(path: Path) -> None:
    """Never up, never sideways; adapters see ports and pure modules, and only assembly sees adapters."""
    part, imported = part_of(path), parts_imported(path)
    if part == "__init__":
        assert not imported
    elif part == "simulator":
        assert imported <= {"types", "errors"}
    elif part in ADAPTERS:
        assert imported <= PURE
    else:
        below = {name for layer in LAYERS[rank(part) + 1 :] for name in layer}
        allowed = below | (ADAPTERS if part == "assembly" else set()) | ({"simulator"} if part == "__main__" else set())
        assert imported <= allowed


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(CLIENT)], ids=str)
def test_the_client_shares_the_wire_and_nothing_else(path: Path) -> None:
    """`millrace.wire`, `millrace.errors`, `millrace.types`."""
    assert parts_imported(path) <= {"wire", "errors", "types"}


@pytest.mark.parametrize("part", sorted(NO_IO_BELOW))
def test_the_funnel_and_below_do_no_io(part: str) -> None:
    """I/O is for adapters."""
    files = [SERVER / f"{part}.py"] if (SERVER / f"{part}.py").exists() else list((SERVER / part).glob("*.py"))
    for path in files:
        assert not {name.split(".")[0] for name in imports_of(path)} & IO_MODULES


def test_the_sizes() -> None:
    """`funnel.py` reads in one breath, no file passes 500 lines, the median file 200."""
    sources = [*FILES, *(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "static").glob("*.js")]
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in sources}
    assert {path: size for path, size in sizes.items() if size > 500} == {}
    assert sizes[SERVER / "funnel.py"] <= 200
    assert sorted(sizes[path] for path in FILES)[len(FILES) // 2] <= 200


def test_the_names() -> None:
    """No catch-alls."""
    banned = re.compile(r"(utils?|helpers?|managers?|handlers?|base|common|misc)$")
    assert [path for path in FILES if banned.match(path.stem)] == []


def test_what_is_committed_names_no_registry() -> None:
    """Pins carry hashes and no host."""
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (REPOSITORY / name).read_text("utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text


def test_core_dependencies_are_the_ones_imported() -> None:
    """Nothing is asked for that is not used, nothing used that is not asked for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {re.split(r"[>=;\s]", line)[0].replace("-", "_") for line in project["dependencies"]}
    used = {name.split(".")[0] for path in FILES for name in imports_of(path)}
    assert asked <= used
