"""A program of Millrace's own in another process, which can be killed: messages go both ways through pipes.

A message is msgpack behind its length. Nothing here is thread-safe, but `kill` may be called from any thread.
"""

import os
import select
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

LENGTH = struct.Struct("!I")  # before each message
ENDING_S = 0.2  # that the process has to end by itself


class Child:
    """One such process, which runs from the start."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str] | None = None) -> None:
        """Start Python with these arguments, and with these variables beside those of this process."""
        self._process = subprocess.Popen(  # noqa: S603 - a fixed program
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a library that runs out of memory says so there
            bufsize=0,
            env=None if environment is None else os.environ | environment,
        )
        assert self._process.stdin is not None, "it is piped"
        assert self._process.stdout is not None, "it is piped"
        self._to, self._from = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def write(self, message: Any) -> None:
        """Send a message. Blocks while the process does not read; raises `BrokenPipeError` if it has ended."""
        data = msgspec.msgpack.encode(message)
        view = memoryview(LENGTH.pack(len(data)) + data)
        while view:
            view = view[os.write(self._to.fileno(), view) :]

    def read(self, silent_s: float) -> Any:
        """Return the next message. Raises `EOFError` if the process has ended, `TimeoutError` if it is silent."""
        (length,) = LENGTH.unpack(self._read(LENGTH.size, silent_s))
        return msgspec.msgpack.decode(self._read(length, silent_s))

    def kill(self) -> None:
        """End it at once; `end` is still to be called."""
        self._process.kill()

    def end(self) -> int:
        """Let it end, or kill it; return its exit code, which is negative for a signal."""
        self._to.close()
        try:
            self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()
        return self._process.returncode

    def _read(self, length: int, silent_s: float) -> bytes:
        data, poll = b"", select.poll()
        poll.register(self._from, select.POLLIN)
        while len(data) < length:
            if not poll.poll(silent_s * 1000):
                raise TimeoutError
            if not (piece := os.read(self._from.fileno(), length - len(data))):
                raise EOFError
            data += piece
        return data
