"""`millrace batch`: a file goes in, a file comes out, whatever stops it on its way."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from millrace.errors import MillraceError
from millrace_client.batch.command import batch as batch_command
from tests.support.batches import chat, client_of, jsonl, started
from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT
from tests.support.server import Running, Start, process_of
from tests.support.tenants import shared_server
from tests.support.waiting import PATIENCE_S

SLOW = "[tokens=40] [rate=20]"  # two seconds


async def run(url: str, *arguments: str | Path, key: str = "", code: int = 0) -> tuple[str, str]:
    """Run a command to its end; return what it prints and what it says."""
    runner = CliRunner(env={"COLUMNS": "200", "MILLRACE_URL": url, **({"MY_KEY": key} if key else {})})
    result = await asyncio.to_thread(runner.invoke, batch_command, [*map(str, arguments)])
    assert result.exit_code == code, (result.stderr, result.exception)
    return result.stdout, result.stderr


async def begun(url: str, *arguments: str | Path) -> asyncio.subprocess.Process:
    command = [sys.executable, str(REPOSITORY / "server"), "batch", *map(str, arguments)]
    environment = {**ENVIRONMENT, "MILLRACE_URL": url}
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def requests_in(folder: Path, lines: Sequence[dict[str, Any] | str], name: str = "requests.jsonl") -> Path:
    path = folder / name
    path.write_bytes(jsonl(lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def test_answers_come_in_the_order_of_the_requests(millrace: Running, tmp_path: Path) -> None:
    """What cannot be answered is in a file beside it, and the exit code says so."""
    asked = [chat(f"row-{number}", f"Say {number}", model="small") for number in range(30)]
    requests = requests_in(tmp_path, [asked[0], "{", *asked[1:], asked[3]])
    output = tmp_path / "answers.jsonl"
    out, err = await run(millrace.url, "run", requests, "-o", output, code=1)
    assert out == ""
    assert "30 of 32 answered" in err
    assert f"2 failed, see {tmp_path / 'answers.errors.jsonl'} · $0.0" in err
    assert [row["custom_id"] for row in read(output)] == [f"row-{number}" for number in range(30)]
    assert [row["line"] for row in read(tmp_path / "answers.errors.jsonl")] == [2, 32]
    assert names_in(tmp_path) == ["answers.errors.jsonl", "answers.jsonl", "requests.jsonl"]


async def test_the_same_requests_are_not_paid_twice_unless_that_is_wanted(millrace: Running, tmp_path: Path) -> None:
    requests = requests_in(tmp_path, [chat("a", "Hello", model="small", temperature=1)])
    output, errors = tmp_path / "a.jsonl", tmp_path / "e.jsonl"
    await run(millrace.url, "run", requests, "-o", output, "--errors", errors)
    first = output.read_bytes()
    output.unlink()
    _, err = await run(millrace.url, "run", requests, "-o", output, "--errors", errors)
    assert "has these requests: completed. --again runs them anew." in err
    assert output.read_bytes() == first
    assert not errors.exists()
    await run(millrace.url, "run", requests, "-o", output, "--again")
    assert output.read_bytes() != first
    listed = json.loads((await run(millrace.url, "list", "--json"))[0])
    assert [(batch["status"], batch["metadata"]["file"]) for batch in listed] == [("completed", "requests.jsonl")] * 2


async def test_a_run_that_is_stopped_goes_on_where_it_is(millrace: Running, tmp_path: Path) -> None:
    """Ctrl-C ends the command and not the batch."""
    requests = requests_in(tmp_path, [chat("a", f"Tell {SLOW}", model="small")])
    output = tmp_path / "a.jsonl"
    process = await begun(millrace.url, "run", requests, "-o", output)
    assert process.stderr is not None
    assert b"runs on the server" in await asyncio.wait_for(process.stderr.readline(), PATIENCE_S)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 130
    assert b"what was begun goes on at the server" in err
    await run(millrace.url, "run", requests, "-o", output)
    assert [row["custom_id"] for row in read(output)] == ["a"]
    assert millrace.calls == 1


async def test_a_server_that_has_no_time_for_a_look_is_looked_at_again(
    millrace: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_in(tmp_path, [chat("a", f"Tell {SLOW}", model="small")])
    async with client_of(millrace.url) as client:
        await client.batches.list()
        batches, refused = process_of(millrace).batches, 0
        find = batches.find

        async def refuses_at_first(*arguments: str) -> Any:
            nonlocal refused
            refused += 1
            if refused <= 3:
                raise MillraceError("overloaded", "the disk of the server does not answer; try again")
            return await find(*arguments)

        monkeypatch.setattr(batches, "find", refuses_at_first)
        await run(millrace.url, "run", requests, "-o", tmp_path / "a")
    assert refused > 3
    assert len(read(tmp_path / "a")) == 1


async def test_one_model_for_all_lines(millrace: Running, tmp_path: Path) -> None:
    requests = requests_in(tmp_path, [chat("a", "Hello", model="gpt-9"), "{", chat("b", "Hello there")])
    await run(millrace.url, "run", requests, "-o", tmp_path / "a", "--model", "large", "--in-flight", "1", code=1)
    assert [row["response"]["body"]["model"] for row in read(tmp_path / "a")] == ["large-model"] * 2


async def test_a_file_with_a_byte_order_mark_is_as_one_without(millrace: Running, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(b"\xef\xbb\xbf" + jsonl([chat("a", "Hello", model="gpt-9"), chat("b", "Hello there")]))
    await run(millrace.url, "run", requests, "-o", tmp_path / "a", "--model", "large")
    assert [row["custom_id"] for row in read(tmp_path / "a")] == ["a", "b"]
    assert [row["response"]["body"]["model"] for row in read(tmp_path / "a")] == ["large-model"] * 2


@pytest.mark.parametrize(
    ("raw", "name"), [(b"caf\xe9\n.jsonl", "caf\ufffd.jsonl"), ('a\\ "ä".jsonl'.encode(), 'a\\ "ä".jsonl')]
)
async def test_a_file_may_have_any_name(millrace: Running, tmp_path: Path, raw: bytes, name: str) -> None:
    requests = requests_in(tmp_path, [chat("a", "Hello", model="small")], os.fsdecode(raw))
    await run(millrace.url, "run", requests, "-o", tmp_path / "a")
    async with client_of(millrace.url) as client:
        batch = (await client.batches.list()).data[0]
        assert (batch.metadata or {})["file"] == (await client.files.retrieve(batch.input_file_id)).filename == name


async def test_a_link_to_a_file_of_answers_stays_one(millrace: Running, tmp_path: Path) -> None:
    requests = requests_in(tmp_path, [chat("a", "Hello", model="small")])
    (tmp_path / "link").symlink_to(tmp_path / "answers")
    await run(millrace.url, "run", requests, "-o", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(read(tmp_path / "answers")) == 1


async def test_a_full_disk_is_not_taken_for_a_server_that_is_away(
    millrace: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_in(tmp_path, [chat("a", "Hello", model="small")])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("millrace_client.batch.answers._write", full)
        _, err = await run(millrace.url, "run", requests, "-o", tmp_path / "a", code=1)
    assert f"{tmp_path / 'a'}: No space left on device" in err
    assert names_in(tmp_path) == ["requests.jsonl"]
    await run(millrace.url, "run", requests, "-o", tmp_path / "a")
    assert len(read(tmp_path / "a")) == millrace.calls == 1


async def test_answers_that_are_deleted_can_be_asked_for_again(millrace: Running, tmp_path: Path) -> None:
    requests = requests_in(tmp_path, [chat("a", "Hello", model="small")])
    await run(millrace.url, "run", requests, "-o", tmp_path / "a")
    async with client_of(millrace.url) as client:
        batch = (await client.batches.list()).data[0]
        await client.files.delete(batch.output_file_id or "")
    _, err = await run(millrace.url, "run", requests, "-o", tmp_path / "a", code=1)
    assert f"what {batch.id} has answered is not kept any more; --again runs the requests anew" in err


async def test_requests_from_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    _, err = await run("http://127.0.0.1:1", "run", tmp_path / "pipe", "-o", tmp_path / "a", code=2)
    assert "it is read more than once, which a pipe cannot be" in err


async def test_a_batch_is_shown_and_cancelled(millrace: Running) -> None:
    async with client_of(millrace.url) as client:
        asked = [chat(str(n), f"Tell {n} {SLOW}", model="small") for n in range(200)]
        batch = await started(client, asked, metadata={"millrace.in_flight": "1"})
    out, _ = await run(millrace.url, "cancel", batch.id)
    assert batch.id in out
    assert "cancelling" in out
    status = ""
    while status != "cancelled":
        status = json.loads((await run(millrace.url, "show", batch.id, "--json"))[0])["status"]
    out, _ = await run(millrace.url, "show", batch.id)
    assert "answered, 0 failed" in out
    assert "cancelled" in (await run(millrace.url, "list"))[0]
    _, err = await run(millrace.url, "cancel", batch.id, code=1)
    assert "cannot be cancelled, since it is cancelled" in err


async def test_a_key_comes_from_a_variable(start: Start, tmp_path: Path) -> None:
    async with shared_server(start, tmp_path, "acme") as shared:
        url = shared.running.url
        _, err = await run(url, "list", code=1)
        assert "unauthorized: " in err
        assert "put a key in $MILLRACE_API_KEY" in err
        out, _ = await run(url, "list", "--key-env", "MY_KEY", "--json", key=shared.keys["acme"])
        assert out == "[]\n"


@pytest.mark.parametrize(
    ("lines", "arguments", "words"),
    [
        (["{}"], ["-o", "answers.jsonl"], "no line names one of /v1/chat/completions"),
        ([chat("a", "x")], ["-o", "{requests}"], "its answers would replace it"),
        ([chat("a", "x")], ["-o", "a", "--errors", "./a"], "it is for answers and for errors"),
        ([chat("a", "x")], ["-o", "nowhere/a"], "nowhere/a: there is no folder"),
        ([chat("a", "x")], ["-o", "a", "--errors", "/dev/null"], "/dev/null: no file, and it would be replaced by one"),
        ([chat("a", "x")], [], "Missing option '-o' / '--output'"),
        ([chat("a", "x")] * 50_001, ["-o", "answers.jsonl"], "50,001 lines; a batch has at most 200 MB and 50,000"),
    ],
)
async def test_a_wrong_call_is_told_before_anything_is_sent(
    lines: list[Any], arguments: list[str], words: str, tmp_path: Path
) -> None:
    requests = requests_in(tmp_path, lines)
    arguments = [argument.format(requests=requests) for argument in arguments]
    _, err = await run("http://127.0.0.1:1", "run", requests, *arguments, code=2)
    assert words in " ".join(err.split())


async def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    requests = requests_in(tmp_path, [chat("a", "x")])
    _, err = await run("http://127.0.0.1:1", "run", requests, "-o", tmp_path / "answers", code=3)
    assert "no Millrace answers at http://127.0.0.1:1: start a server" in err
    assert names_in(tmp_path) == ["requests.jsonl"]
