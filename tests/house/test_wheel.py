"""What users install: the wheel, in an empty venv, far from the checkout."""

import os
import re
import shlex
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from millrace.web.manual.library import BESIDE
from tests.support.paths import REPOSITORY
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S

PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
INSTALL = ("install", "--no-compile")  # what is imported is compiled then, which is the least of it
AS_LOCKED = ("--no-deps", "--no-build-isolation")  # nothing is resolved, no build tool either


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run = [sys.executable, *PIP, "wheel", *AS_LOCKED, "--wheel-dir", str(folder), str(REPOSITORY)]
    subprocess.run(run, check=True, timeout=150)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty venv with the wheel and its pinned dependencies; returns its bin folder."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    for lock in ("requirements-build.txt", "requirements.txt"):
        pins = ("--require-hashes", "-r", str(REPOSITORY / lock))
        subprocess.run([python, *PIP, *INSTALL, *AS_LOCKED, *pins], check=True, timeout=300)
    subprocess.run([python, *PIP, *INSTALL, "--no-deps", str(wheel)], check=True, timeout=150)
    subprocess.run([python, *PIP, "check"], check=True, timeout=150)
    return folder / "bin"


@pytest.fixture
def demo(installed: Path, tmp_path: Path) -> Iterator[str]:
    """`millrace demo` of that venv in an empty folder; yields its address."""
    command = [str(installed / "millrace"), "demo", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = None
            while address is None:
                line = process.stdout.readline()
                assert line, "the demo ended without an address"
                address = re.search(r"http://(127\.0\.0\.1:\d+)/", line)
            yield address[1]
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def test_the_wheel_brings_two_packages_and_nothing_generic(wheel: Path) -> None:
    """No `server`, `client`, `static` or `tests` in anyone's site-packages; the page and the notices are in."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"millrace", "millrace_client"}
    caches = (
        "directions.npy",
        "decision/verifier.npz",
        "decision/mix.json",
        "guards/common.txt",
        "reusable/weights.npz",
    )
    assert {
        "millrace/static/index.html",
        "millrace/static/dashboard/index.html",
        *(f"millrace/caches/{name}" for name in caches),
    } <= set(names)
    with zipfile.ZipFile(wheel) as file:
        assert file.read("millrace/cli/millrace.toml") == (REPOSITORY / "millrace.toml").read_bytes()
        pages = [*(REPOSITORY / "docs").rglob("*.*"), *(REPOSITORY / name for name in BESIDE)]
        for page in pages:
            assert file.read(f"millrace/manual/{page.relative_to(REPOSITORY).as_posix()}") == page.read_bytes()
    assert {"LICENSE", "NOTICE"} <= {name.rpartition("/")[2] for name in names}


@pytest.mark.timeout(420)
def test_an_installed_wheel_serves_the_page_and_answers(installed: Path, demo: str, tmp_path: Path) -> None:
    """From an empty folder: the page over HTTP, an answer over the wire, with the installed commands."""
    page = urlopen(f"http://{demo}/", timeout=PATIENCE_S).read().decode()
    assert "<title>" in page
    documentation = urlopen(f"http://{demo}/docs/keys", timeout=PATIENCE_S).read().decode()
    assert "<title>Keys · Millrace</title>" in documentation
    ask = [str(installed / "millrace"), "ask", "What is the capital of France?", "--url", f"ws://{demo}"]
    done = subprocess.run(ask, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert "Paris" in done.stdout
    assert "$0.0000" in done.stderr


@contextmanager
def left_running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a program; yield the host and port that it prints."""
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            address = re.search(r"127\.0\.0\.1:\d+", line)
            assert address, line
            yield address[0]
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


@pytest.mark.timeout(420)
def test_from_an_empty_folder_to_the_first_answer_by_what_is_printed(installed: Path, tmp_path: Path) -> None:
    """`init` prints the commands, and each of them works; only the ports are changed, so that they are free here."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE", "OPENAI"))}
    environment["PATH"] = f"{installed}{os.pathsep}{environment['PATH']}"
    here: Any = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": PATIENCE_S}
    written = subprocess.run(["millrace", "init"], check=True, **here)
    steps = [shlex.split(line, comments=True) for line in written.stdout.splitlines() if line.startswith("  ")]
    simulate, doctor, serve, ask = steps
    assert [step[:2] for step in steps] == [["millrace", name] for name in ("simulate", "doctor", "serve", "ask")]
    with ExitStack() as running:
        for name in ("small", "large"):
            one = [*simulate, "--profile", name, "--port", "0"]
            address = running.enter_context(left_running(one, tmp_path, environment))
            environment[f"MILLRACE__MODELS__{name.upper()}__BASE_URL"] = f"http://{address}/v1"
        environment["MILLRACE__SERVER__PORT"] = str(free_port())
        looked = subprocess.run(doctor, check=False, **here)
        assert (looked.returncode, looked.stderr) == (0, ""), looked.stdout
        assert looked.stdout.splitlines()[-1] == "Nothing is wrong. Next: millrace serve"
        address = running.enter_context(left_running(serve, tmp_path, environment))
        environment["MILLRACE_URL"] = f"ws://{address}"
        answer = subprocess.run(ask, check=False, **here)
    assert answer.stdout.startswith("A millrace is the channel that leads water to a mill wheel")
    assert answer.stderr.startswith("small · small-fast-model · ")
