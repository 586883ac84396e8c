"""What is not installed is named in one line with what to do, and what can do without it does."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT, server_process
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import check_response, wire_client

RUN: Any = {"capture_output": True, "text": True, "timeout": PATIENCE_S}
HIDE = "import sys\nsys.modules['hnswlib'] = None\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without any package."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder)
    return folder / "bin" / "python"


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_checkout_without_its_environment_says_how_to_get_it(bare: Path, side: str) -> None:
    command = [str(bare), side, *(["What is a millrace?"] if side == "client" else ["serve"])]
    ended = subprocess.run(command, check=False, cwd=REPOSITORY, **RUN)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "This Python has no" in line
    assert f"`make demo` sets up .venv once; then run: .venv/bin/python {side}" in line


def test_a_package_that_a_command_alone_needs_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['starlette'] = None\n")
    command = [sys.executable, "server", "serve", "--help"]
    hidden = ENVIRONMENT | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, check=False, cwd=REPOSITORY, env=hidden, **RUN)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("This Python has no starlette")


@pytest.mark.parametrize("has_compiler", [False, True])
def test_a_missing_compiler_is_named_before_anything_is_installed(tmp_path: Path, *, has_compiler: bool) -> None:
    """By make, in one line, with the command that installs it; and Python's headers likewise."""
    tools, environment = tmp_path / "bin", tmp_path / "venv"
    tools.mkdir()
    for tool in ("sh", "rm", "touch"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    if has_compiler:
        (tools / "g++").symlink_to(str(shutil.which("true")))
    python = tools / "python"
    python.write_text("#!/bin/sh\nexit 1\n")  # it finds no headers
    python.chmod(0o755)
    command = [str(shutil.which("make")), f"VENV={environment}", f"PYTHON={python}", str(environment / ".made")]
    ended = subprocess.run(command, check=False, cwd=REPOSITORY, env={"PATH": str(tools)}, **RUN)
    assert ended.returncode != 0
    missing = "Python's headers" if has_compiler else "a C++ compiler"
    assert ended.stdout.startswith(
        f"hnswlib is compiled here, and {missing} is missing. Debian, Ubuntu: apt install g++"
    )
    assert not environment.exists()


REWORDED = ("How can I reset my router?", "How could I reset my router?", "what is the best way to reset my router")


async def test_without_hnswlib_it_serves_and_finds_by_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a scope above `index_above` misses it, and that is logged once."""
    _hide_hnswlib(tmp_path, monkeypatch)
    monkeypatch.setitem(ENVIRONMENT, "MILLRACE__CACHE__INDEX_ABOVE", "1")
    async with server_process(tmp_path, drain_s=0) as running:
        async with wire_client(running.ws_url) as client:
            for question in ("What is a weir?", "What is a lock?", "What is a sluice?", "How do I reset my router?"):
                check_response(await client.ask(question))
            # The answer may still be on its way into the cache when it is asked for again.
            again = [check_response(await client.ask(question)) for question in REWORDED]
        running.stop()
        await running.exited()
        assert running.process.stderr is not None
        events = [json.loads(line) for line in running.process.stderr.read().splitlines()]
    assert "semantic" in [response["metadata"]["millrace.cache"] for response in again], again
    assert sum("hnswlib" in event["event"] for event in events) == 1


def test_doctor_says_what_goes_without_hnswlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hide_hnswlib(tmp_path, monkeypatch)
    command = [sys.executable, str(REPOSITORY / "server"), "doctor", "--config", str(REPOSITORY / "millrace.toml")]
    ended = subprocess.run(command, check=False, cwd=tmp_path, env=ENVIRONMENT, **RUN)
    assert "not installed: above 4000 entries a scope is searched row by row" in ended.stdout


def _hide_hnswlib(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that are started from now on find no hnswlib."""
    (folder / "hiding").mkdir()
    (folder / "hiding" / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join(filter(None, (str(folder / "hiding"), ENVIRONMENT.get("PYTHONPATH"))))
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", path)
