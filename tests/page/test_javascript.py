"""The JavaScript under Node and under TypeScript, and the golden frames that both clients must read alike."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.errors import MillraceError
from millrace.wire import responses as wire
from millrace_client.stream import Stream
from tests.support.paths import REPOSITORY

JS = REPOSITORY / "tests" / "js"
TSC = JS / "node_modules" / ".bin" / "tsc"
CAPTURED = REPOSITORY / "tests" / "support" / "captured"
GOLDENS = sorted(path.stem for path in CAPTURED.glob("*.json"))
SECONDS = 120


class Golden(msgspec.Struct):
    """A conversation as a server sent it, and what a client must make of it."""

    name: str
    negotiated: bool
    text: str
    status: str
    events: list[msgspec.Raw]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=JS, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_client_and_the_arithmetic_under_node() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    run(node, "--test")


def test_the_types_of_all_javascript_and_those_of_the_package(tmp_path: Path) -> None:
    """After a change of millrace.js: `npm run types --prefix tests/js`."""
    if not TSC.exists() or shutil.which("node") is None:
        pytest.skip("TypeScript is not installed; install it with: npm ci --prefix tests/js")
    run(TSC, "-p", ".", "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", tmp_path)
    for written in (REPOSITORY / "static" / "types").iterdir():
        assert written.read_text("utf-8") == (tmp_path / "static" / written.name).read_text("utf-8"), written.name


def test_the_lock_file_names_no_registry() -> None:
    lock = (JS / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert "://" not in lock


@pytest.fixture(params=GOLDENS)
def golden(request: pytest.FixtureRequest) -> Golden:
    return msgspec.json.decode((CAPTURED / f"{request.param}.json").read_bytes(), type=Golden)


async def test_the_python_client_reads_a_golden_conversation(golden: Golden) -> None:
    stream = Stream("ev_1", "golden", never)
    for raw in golden.events:
        event = wire.decode(bytes(raw))
        assert event is not None, f"not known: {bytes(raw)!r}"
        if not isinstance(event, wire.Hello):
            stream.take(event)
    assert stream.ended
    assert await status(stream) == golden.status
    assert stream.text == golden.text


def test_a_golden_conversation_keeps_the_rules_of_the_wire(golden: Golden) -> None:
    events: list[dict[str, Any]] = [msgspec.json.decode(raw) for raw in golden.events]
    types = [event["type"] for event in events]
    assert ("millrace.hello" in types) is golden.negotiated
    numbers = [event["sequence_number"] for event in events if "sequence_number" in event]
    assert numbers == [*range(len(numbers))]
    ends = [kind for kind in types if kind in ("response.completed", "response.failed", "response.incomplete", "error")]
    assert ends == types[-1:]


def never(_: Stream) -> None:
    raise AssertionError("nothing is cancelled here")


async def status(stream: Stream) -> str:
    try:
        return (await stream.reply()).status
    except MillraceError:
        return "refused" if stream.response is None else stream.response.status
