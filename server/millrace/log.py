"""Logging: one event per line, as JSON unless stderr is a terminal. Prompts, answers and keys are never logged.

A fault (`exc_info`) is logged in one line: its type, and where it was raised. Its message may quote a prompt, so only
the operating system's and SQLite's are logged. At most one warning or error of a kind (of a model and a cause, where it
names them) is logged a second; the next one says how many were left out.

A server's lines of level info, one for each request, are written together ten times a second: a write lets another
thread have the interpreter, and costs more than the line. All others are written at once, after those that wait.
"""

import asyncio
import atexit
import json
import logging
import re
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import PurePath
from typing import Any, TextIO

import orjson
import structlog

TOGETHER_S = 0.1  # that a line waits for others, where they are written together
EVERY_S = 1.0  # from one line of a kind to the next, at least
KINDS = 256  # that are remembered
FRAMES = 6  # of a traceback, the innermost ones
OTHERS = ("uvicorn.error", "uvicorn.access", "asyncio", "aiohttp.client", "aiohttp.internal")  # loggers of libraries

_WORDS_ARE_SAFE = (OSError, sqlite3.Error)
_GRAVE = ("warning", "error", "critical")


request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the request whose task this is


class Throttle:
    """Lets one line of a kind through in `every_s` seconds, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, every_s: float = EVERY_S) -> None:
        self._clock = clock
        self._every_s = every_s
        self._kinds: dict[object, tuple[float, int]] = {}  # kind -> when a line was let through; left out since then

    def passes(self, kind: object) -> int | None:
        """Return how many lines of a kind were left out before this one; None if this one is to be left out."""
        now = self._clock()
        last, left_out = self._kinds.get(kind, (now - self._every_s, 0))
        if now - last < self._every_s:
            self._kinds[kind] = (last, left_out + 1)
            return None
        if len(self._kinds) >= KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now, 0)
        return left_out


class Lines:
    """Writes lines to a file, in order; if they are to go `together`, those of level info wait for more on a loop.

    They wait no longer than for a line of another level or `flush`. The methods may be called in any thread.
    """

    def __init__(self, file: TextIO) -> None:
        self.together = False
        self._file = file
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # that is going to write what waits
        self._lock = threading.Lock()

    def info(self, line: str) -> None:
        """Write a line, soon."""
        if not self.together:
            self.warning(line)
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.warning(line)
            return
        with self._lock:
            is_due = bool(self._lines) and self._loop is loop
            self._lines.append(line)
            self._loop = loop
        if not is_due:
            loop.call_later(TOGETHER_S, self.flush)

    def warning(self, line: str) -> None:
        """Write a line now."""
        with self._lock:
            self._lines.append(line)
        self.flush()

    debug = info
    error = critical = warning

    def flush(self) -> None:
        """Write what waits now. What cannot be written is lost: a full disk or a closed pipe must stop nothing else."""
        with self._lock:
            if self._lines:
                text = "\n".join((*self._lines, ""))
                self._lines.clear()
                with suppress(OSError, ValueError):  # the second one: the file is closed
                    self._file.write(text)
                    self._file.flush()


class _Log:
    """What `get` returns, made once for each configuration."""

    lines: Lines | None = None
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def configure(*, level: str = "info") -> None:
    """Configure structlog to write to standard error."""
    flush()
    renderer: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else _as_json
    lines = _Log.lines = Lines(sys.stderr)
    structlog.configure(
        processors=[
            _throttled(Throttle()),
            _of_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _fault,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda: lines,
        cache_logger_on_first_use=False,
    )
    _Log.logger = structlog.get_logger().bind()


def write_together() -> None:
    """Write many lines at once, as a server does, which has many."""
    if _Log.lines is not None:
        _Log.lines.together = True


def get() -> structlog.stdlib.BoundLogger:
    """Return the logger."""
    return _Log.logger


def flush() -> None:
    """Write what waits to be written together. Called at the end of the process, too."""
    if _Log.lines is not None:
        _Log.lines.flush()


atexit.register(flush)


def quiet_others() -> None:
    """Throttle the loggers of libraries, mask secrets in their lines, and make one line of each traceback. Idempotent.

    A stranger's bytes can make them log, as often as he sends some.
    """
    for name in OTHERS:
        logger = logging.getLogger(name)
        for earlier in [each for each in logger.filters if isinstance(each, _Quiet)]:
            logger.removeFilter(earlier)
        logger.addFilter(_Quiet())


_SECRET = re.compile(r"(mr_[0-9a-f]{12}_|millrace\.ticket\.)[\w-]+")


class _Quiet(logging.Filter):
    """A filter for the logger of a library. A kind is the line of code that logs."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged, which is one line afterwards."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            left_out = self._throttle.passes((record.pathname, record.lineno))
            if left_out is None:
                return False
            text = text.partition("\n")[0]  # asyncio's further lines show tasks and what they have raised
            if record.exc_info and record.exc_info[1] is not None:
                error = record.exc_info[1]
                text = f"{text}: {type(error).__name__} at {', '.join(_places(error))}"
            if left_out:
                text = f"{text} (and {left_out} more like it)"
            record.exc_info = record.exc_text = record.stack_info = None
        record.msg, record.args = _SECRET.sub(r"\1…", text), ()
        return True


def _throttled(throttle: Throttle) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    def throttled(_: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if level in _GRAVE:
            left_out = throttle.passes((event["event"], event.get("model"), event.get("cause")))
            if left_out is None:
                raise structlog.DropEvent
            if left_out:
                event["left_out"] = left_out
        return event

    return throttled


def _of_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write which request an event is about, where its task is that of one."""
    if "id" not in event and (its := request_id.get()):
        event["id"] = its
    return event


_PLAIN = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_json = json.JSONEncoder(sort_keys=True, default=repr)


def _as_json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """Write an event as JSON in ASCII, so that nothing in it controls a terminal. What is plain is written fast."""
    try:
        line = orjson.dumps(event, option=_PLAIN)
    except TypeError:
        return _json.encode(event)
    return line.decode() if line.isascii() else _json.encode(event)


def _fault(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write the fault of an event as fields."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["error"], event["at"] = type(error).__name__, _places(error)
        if isinstance(error, _WORDS_ARE_SAFE):
            event["error"] += f": {error}"
    return event


def _places(error: BaseException) -> list[str]:
    """Return where an error was raised: the innermost frames, the last one first."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)][-FRAMES:]
    return [f"{PurePath(code.co_filename).name}:{line} {code.co_qualname}" for code, line in reversed(frames)]
