"""millrace.js as a package of npm: what is in it, its types, and a program that has installed it."""

import asyncio
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from millrace import __version__
from tests.support.keyed_server import keyed_server
from tests.support.paths import REPOSITORY
from tests.support.server import Start

JS, STATIC = REPOSITORY / "tests" / "js", REPOSITORY / "static"
TSC = JS / "node_modules" / ".bin" / "tsc"
NODE, NPM = shutil.which("node"), shutil.which("npm")
HAS_WEBSOCKET = 22  # the first version of Node that has one without a flag
MODULES = ("millrace", "answer", "connection", "errors", "handshake", "request")
SECONDS = 120

pytestmark = pytest.mark.skipif(NODE is None or NPM is None, reason="node and npm are not installed")
typed = pytest.mark.skipif(not TSC.exists(), reason="TypeScript is not installed: npm ci --prefix tests/js")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed, as `npm publish` would send it."""
    folder = tmp_path_factory.mktemp("consumer")
    packed = json.loads(run("npm", "pack", "--json", "--pack-destination", folder, cwd=STATIC))[0]
    with tarfile.open(folder / packed["filename"]) as package:
        package.extractall(folder / "node_modules", filter="data")
    (folder / "node_modules" / "package").rename(folder / "node_modules" / "millrace")
    for program in (JS / "package").iterdir():
        shutil.copy(program, folder)
    return folder


def test_it_holds_the_client_and_nothing_else(installed: Path) -> None:
    package = installed / "node_modules" / "millrace"
    found = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    modules = {f"{name}.js" for name in MODULES} | {f"types/{name}.d.ts" for name in MODULES}
    assert found == modules | {"package.json", "README.md", "LICENSE"}
    about = json.loads((package / "package.json").read_text("utf-8"))
    assert (about["name"], about["version"], about["license"]) == ("millrace", __version__, "MIT")
    assert "private" not in about
    assert "dependencies" not in about
    assert (package / "LICENSE").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()


def test_every_module_that_it_imports_is_in_it() -> None:
    for name in MODULES:
        source = (STATIC / f"{name}.js").read_text("utf-8")
        assert {*re.findall(r'from "\./(\w+)\.js"', source)} <= {*MODULES}


@typed
def test_a_program_in_typescript_sees_them(installed: Path) -> None:
    (installed / "package.json").write_text('{"type": "module"}')
    options = ("--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom,dom.iterable")
    run(TSC, *options, "typed.ts", cwd=installed)


async def test_a_program_under_node_asks_a_server_with_a_key(installed: Path, start: Start, tmp_path: Path) -> None:
    async with keyed_server(start, tmp_path) as guarded:
        version = int(run("node", "--version", cwd=installed).strip("v").partition(".")[0])
        flags = ["--experimental-websocket", "--no-warnings"] if version < HAS_WEBSOCKET else []
        command = ("node", *flags, "ask.mjs", f"{guarded.running.ws_url}/v1/responses", guarded.key)
        told = json.loads(await asyncio.to_thread(run, *command, cwd=installed))
    assert told.pop("cost") > 0
    assert told == {
        "text": "2 + 2 = 4.",
        "revisable": True,
        "stopped": "cancelled",
        "wrong": [True, "millrace.strategy"],
        "stranger": [True, "unauthorized"],
        "closed": 1000,
        "states": ["connected", "lost"],
        "lost": "ConnectionLostError",
    }
