"""The README's five minutes with a third party's server as the small model, as they are printed there."""

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stock.environment import HERE as STOCK
from tests.support.paths import REPOSITORY
from tests.support.ports import free_port

BIN = STOCK / "node_modules" / ".bin"
NPX = "npx --yes --package @copilotkit/aimock "  # what it would fetch is installed
SECONDS = 120
ANSWER = "A millrace leads water to a wheel."


def printed() -> list[str]:
    """Return the commands, without their remarks."""
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    (block,) = [found for found in re.findall(r"^```sh\n(.*?)^```", readme, re.MULTILINE | re.DOTALL) if NPX in found]
    return [re.sub(r"\s+#\s.*", "", line) for line in block.splitlines()]


def listens(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until it does."""
    until = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < until, "it does not listen"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)


@contextlib.contextmanager
def left_running(line: str, port: int, folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """Run what ends with &, until the end of the test."""
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(shlex.split(line), cwd=folder, env=variables, stdout=log, stderr=log)
        try:
            listens(port, process)
            yield
        finally:
            process.terminate()
            process.wait(SECONDS)


@pytest.mark.timeout(300)
def test_the_five_minutes_work_as_printed(tmp_path: Path) -> None:
    if shutil.which("node") is None or not (BIN / "llmock").exists():
        pytest.skip("aimock is not installed; install it with: npm ci --prefix tests/stock")
    mock, large, own = (free_port() for _ in range(3))
    ports = {"4010": mock, "9002": large}
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE", "OPENAI"))}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    variables |= {"MILLRACE__SERVER__PORT": str(own), "MILLRACE_URL": f"ws://127.0.0.1:{own}"}
    variables["MILLRACE__MODELS__LARGE__BASE_URL"] = f"http://127.0.0.1:{large}/v1"
    said: dict[str, str] = {}
    with contextlib.ExitStack() as running:
        for line in printed():
            here = re.sub("4010|9002", lambda port: str(ports[port[0]]), line).replace(NPX, f"{BIN}/")
            if here.endswith("&"):
                port = mock if "llmock" in here else large if "simulate" in here else own
                running.enter_context(left_running(here.removesuffix("&"), port, tmp_path, variables))
            elif here.startswith("export "):
                name, _, value = here.removeprefix("export ").partition("=")
                variables[name] = value
            else:
                done = subprocess.run(
                    ["bash", "-c", here],
                    cwd=tmp_path,
                    env=variables,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS,
                    check=False,
                )
                said[line] = done.stdout + done.stderr
                assert done.returncode == 0, (line, said[line])
    assert "Nothing is wrong." in said["millrace doctor"]
    last = said['millrace ask "What is a millrace?"']
    assert last.startswith(ANSWER)
    assert "\nsmall · small-fast-model · " in last
