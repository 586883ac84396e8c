"""`millrace chat` as people run it, on a terminal and in a pipe."""

import asyncio
import codecs
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest
from click.testing import CliRunner

from millrace_client.__main__ import main
from millrace_client.chat.conversation import Conversation
from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT, spawn
from tests.support.server import Running, Start
from tests.support.waiting import PATIENCE_S

HARD = "Prove that the square root of 2 is irrational."


class Terminal:
    """The other end of a terminal in which a program runs."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._read = ""

    def write(self, text: str) -> None:
        """Press keys."""
        os.write(self._end, text.encode())

    def until(self, pattern: str, again: Callable[[], object] | None = None) -> str:
        """Read until a pattern is on the screen; return what came up to its end. `again` is done if nothing comes."""
        gives_up_at = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self._read)):
            if select([self._end], [], [], PATIENCE_S if again is None else 5.0)[0]:
                self._read += self._decoder.decode(os.read(self._end, 65_536)).replace("\r", "")
                self._read = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._read)
                continue
            assert again is not None, f"no {pattern!r} in {self._read[-900:]!r}"
            assert time.monotonic() < gives_up_at, f"no {pattern!r} in {self._read[-900:]!r}"
            again()
        screen, self._read = self._read[: found.end()], self._read[found.end() :]
        return screen


@contextmanager
def chatting(url: str, *options: str) -> Iterator[tuple[Terminal, subprocess.Popen[str]]]:
    master, slave = pty.openpty()
    with spawn("client", "chat", "--url", url, *options, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        try:
            yield Terminal(master), process
        finally:
            process.kill()
            os.close(master)


async def test_a_conversation_on_a_terminal(millrace: Running, tmp_path: Path) -> None:
    """Turns with Markdown and their cost, an answer that is stopped, what is taken back, and the commands."""
    saved = tmp_path / "chat.md"

    def talk() -> None:
        with chatting(millrace.url, "--system", "Be kind.") as (terminal, process):
            terminal.until("› ")
            terminal.write("Write code that adds two numbers\n")
            answer = terminal.until(r"saved -?\$\d\.\d{6}[^›]*› ")
            assert "```" not in answer
            assert "def turn" in answer
            terminal.write("Tell a long story. [tokens=4000] [rate=100]\n")
            terminal.until(r"\d+ tokens · ")
            process.send_signal(signal.SIGINT)
            assert "large" not in terminal.until(r"cancelled · [^›]*› ")
            terminal.write(f"{HARD}\n")
            assert "↻" in terminal.until(r"check: unsure · .*[^›]*› ")
            for command, says in (
                ("/nothing", "no such command"),
                ("/help", "/retry"),
                ("/model", "name one"),
                ("/model large", "large answers from now on"),
                ("/retry", r"\nlarge · "),
                ("/cost", r"4 answers · \$\d"),
                ("/save", "name a file"),
                (f"/save {saved}", "Written to"),
                (f"/save {saved}", "File exists"),
                ("/system", "no system prompt now"),
                ("/new", "A new conversation"),
                ("/retry", "nothing was asked yet"),
                ("One line \\", "… "),
                ("and one more [tokens=3]", r"large · large-model · \d+ tokens"),
            ):
                terminal.write(f"{command}\n")
                terminal.until(f"{says}")
            terminal.until("› ")
            terminal.write("half a li")
            terminal.until("half a li")
            process.send_signal(signal.SIGINT)  # in vain if the system has echoed that, and no prompt waits yet
            terminal.until("leaves.\n› ", again=lambda: process.send_signal(signal.SIGINT))
            terminal.write("\x04")
            terminal.until(r"answers · \$")
            assert process.wait(PATIENCE_S) == 0

    await asyncio.to_thread(talk)
    assert f"## You\n\n{HARD}\n\n## Millrace\n\n" in saved.read_text()


async def test_each_line_of_a_pipe_is_a_turn(start: Start) -> None:
    """What is written is final; a turn that fails is told, forgotten, and the exit code says so."""

    def talk(url: str) -> subprocess.CompletedProcess[str]:
        command = "client", "chat", "--url", url
        with spawn(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            out, err = process.communicate(f"What is a millrace?\n\n[fault=error] x\n{HARD}\n", timeout=PATIENCE_S)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    async with start() as running:
        ended = await asyncio.to_thread(talk, running.url)
        assert "headrace" in ended.stdout.splitlines()[0]
        assert ended.stdout.rstrip().endswith("So √2 is irrational.")
        assert "fault" not in str(running.large.calls[-1])
        assert "upstream_" in ended.stderr
        assert ended.returncode == 1


async def test_a_pipe_whose_reader_has_gone_and_one_that_is_interrupted(millrace: Running) -> None:
    """Neither is taken for a server that is gone, and no later line is asked."""
    command = ["client", "chat", "--url", millrace.url]
    lines = [f"{number}: tell a long story. [tokens=400] [rate=100]\n" for number in range(6)]

    def closed() -> tuple[int, str]:
        with spawn(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write("".join(lines[:3]))
            process.stdin.close()
            process.stdout.read(5)
            process.stdout.close()
            return process.wait(PATIENCE_S), process.stderr.read()

    def interrupted() -> tuple[int, str]:
        with spawn(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("".join(lines[3:]))
            process.stdin.flush()
            process.stdout.read(5)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE_S)
            return process.returncode, err

    assert await asyncio.to_thread(closed) == (1, "")
    before = millrace.small.stats.started
    assert await asyncio.to_thread(interrupted) == (130, "")
    assert millrace.small.stats.started == before + 1


async def test_input_that_is_no_text(millrace: Running) -> None:
    command = [sys.executable, str(REPOSITORY / "client"), "chat", "--url", millrace.url]
    ended = await asyncio.to_thread(
        subprocess.run, command, input=b"\xff\xfe\n", capture_output=True, env=ENVIRONMENT, timeout=PATIENCE_S
    )
    assert ended.returncode == 1
    assert b"the input is not UTF-8" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("url", ["http://[::1", "ws://127.0.0.1:99999", "ftp://millrace.example", "ws://"])
@pytest.mark.parametrize("command", [["ask", "Hi"], ["chat"], ["load"]])
def test_an_address_at_which_no_server_can_be(command: list[str], url: str) -> None:
    ended = CliRunner().invoke(main, [*command, "--url", url])
    assert ended.exit_code == 2
    assert "--url" in ended.output
    assert "ws://127.0.0.1:8000" in ended.output


def test_what_was_asked_without_an_answer_is_asked_again() -> None:
    """Not the question before it, whose answer stands."""
    talk = Conversation(options={}, turns=[("user", "One?"), ("assistant", "One."), ("user", "Two?")])
    talk.take(None, "")
    assert talk.again() == "Two?"
    assert talk.turns == [("user", "One?"), ("assistant", "One.")]
    assert talk.again() == "One?"
    assert talk.turns == []


async def test_nobody_to_talk_with() -> None:
    """It says what to do."""
    command = ["client", "chat", "--url", "ws://127.0.0.1:1"]
    with spawn(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _, err = process.communicate("Hi\n", timeout=PATIENCE_S)
    assert process.returncode == 3
    assert "make demo" in err
    assert "Traceback" not in err
