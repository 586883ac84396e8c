"""A lock is complete, or the check says what it lacks; no lock names a registry."""

import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

from tests.locks import NO_SOURCES, incomplete
from tests.support.paths import REPOSITORY

LOCKS = [path for path in REPOSITORY.rglob("*requirements*.txt") if ".venv" not in str(path.relative_to(REPOSITORY))]
NODE_LOCKS = [path for path in REPOSITORY.rglob("package-lock.json") if "node_modules" not in path.parts]


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def wheel(folder: Path, name: str, *metadata: str) -> Path:
    """Make a package that holds nothing but what it asks for."""
    lines = ("Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *metadata, "")
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{info}/METADATA", "\n".join(lines))
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an empty environment."""
    venv.create(tmp_path / "venv", with_pip=True)
    return tmp_path / "venv" / "bin" / "python"


def install(python: Path, *wheels: Path) -> None:
    command = (python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index")
    subprocess.run((*command, *wheels), check=True, env=NO_SOURCES)


def test_an_extra_that_is_not_pinned_is_found(python: Path, tmp_path: Path) -> None:
    """The runner asks for plugin[toml], as pytest-cov does for coverage; the lock forgot what the extra brings."""
    extra = wheel(tmp_path, "reader")
    plugin = wheel(tmp_path, "plugin", "Provides-Extra: toml", 'Requires-Dist: reader>=1; extra == "toml"')
    runner = wheel(tmp_path, "runner", "Requires-Dist: plugin[toml]>=1")
    install(python, plugin, runner)
    assert "No matching distribution found for reader>=1" in incomplete(python, ["runner"])
    install(python, extra)
    assert incomplete(python, ["runner"]) == ""


def test_a_dependency_that_is_not_pinned_is_found(python: Path, tmp_path: Path) -> None:
    install(python, wheel(tmp_path, "runner", "Requires-Dist: plugin>=1"))
    assert "runner 1.0 requires plugin, which is not installed" in incomplete(python, ["runner"])


@pytest.mark.parametrize("path", LOCKS, ids=named)
def test_every_pin_has_its_hash_and_names_no_registry(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "://" not in text
    pins = [line for line in text.splitlines() if line[:1].isalnum()]
    assert pins
    assert all("==" in pin and pin.endswith("\\") for pin in pins)


@pytest.mark.parametrize("path", NODE_LOCKS, ids=named)
def test_a_node_lock_names_no_registry_and_the_next_one_will_not_either(path: Path) -> None:
    text = path.read_text("utf-8")
    assert '"integrity": "sha512-' in text
    assert "://" not in text
    assert '"resolved"' not in text
    assert "omit-lockfile-registry-resolved=true" in (path.parent / ".npmrc").read_text("utf-8")
