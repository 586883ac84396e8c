"""Lines of the log that are written together: none is lost, none is late, and each is the JSON it would be alone."""

import asyncio
import errno
import io
import json
import subprocess
import sys
import threading

import pytest

from millrace import log
from millrace.log import TOGETHER_S, Lines


async def test_lines_of_level_info_are_written_together_soon() -> None:
    file = io.StringIO()
    lines = Lines(file)
    lines.together = True
    lines.info("a")
    lines.info("b")
    assert file.getvalue() == ""
    await asyncio.sleep(2 * TOGETHER_S)
    assert file.getvalue() == "a\nb\n"
    lines.info("c")
    await asyncio.sleep(2 * TOGETHER_S)
    assert file.getvalue() == "a\nb\nc\n"


@pytest.mark.parametrize("level", ["warning", "error", "critical"])
async def test_a_warning_waits_for_nothing_and_keeps_its_place(level: str) -> None:
    file = io.StringIO()
    lines = Lines(file)
    lines.together = True
    lines.info("a")
    getattr(lines, level)("b")
    assert file.getvalue() == "a\nb\n"


def test_a_line_waits_for_no_loop_that_has_ended() -> None:
    """What waits when a loop ends is written by the next one, or at the end; without a loop nothing waits."""
    file = io.StringIO()
    lines = Lines(file)
    lines.together = True

    async def says(line: str, wait_s: float = 0.0) -> None:
        lines.info(line)
        await asyncio.sleep(wait_s)

    asyncio.run(says("a"))
    asyncio.run(says("b", 2 * TOGETHER_S))
    assert file.getvalue() == "a\nb\n"
    lines.info("c")
    assert file.getvalue() == "a\nb\nc\n"


class FullOnce(io.StringIO):
    """A file on a disk that is full at first."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            self.is_full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_line_that_cannot_be_written_stops_nothing() -> None:
    """Who logs, often because the same disk is full, goes on; so do the next lines."""
    file = FullOnce()
    lines = Lines(file)
    lines.warning("a")
    lines.warning("b")
    assert file.getvalue() == "b\n"
    file.close()
    lines.warning("c")


async def test_threads_lose_no_line() -> None:
    file = io.StringIO()
    lines = Lines(file)
    lines.together = True

    def warn() -> None:
        for _ in range(1000):
            lines.warning("w")

    threads = [threading.Thread(target=warn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(1000):
        lines.info("i")
    for thread in threads:
        thread.join()
    lines.flush()
    assert sorted(file.getvalue().split()) == ["i"] * 1000 + ["w"] * 4000


@pytest.mark.parametrize("end", ["", "raise ValueError", "sys.exit(3)"])
def test_what_waits_at_the_end_of_the_process_is_written(end: str) -> None:
    program = f"""
import asyncio, sys
from millrace import log
async def main():
    log.get().info("last words")
    {end}
log.configure()
log.write_together()
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "last words" in ended.stderr


VALUES = [1, 1.5, None, True, "plain", "Übung \x9b", "\ud800", 2**70, {"b": 1, "a": [2]}, {1: 2}, b"bytes", ValueError]


@pytest.mark.parametrize("value", VALUES)
def test_a_line_is_json_in_ascii(value: object) -> None:
    """Whoever writes it: what is plain is written by another library than the rest."""
    line = log._as_json(None, "info", {"event": "said", "value": value})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == json.loads(json.dumps({"event": "said", "value": value}, sort_keys=True, default=repr))
