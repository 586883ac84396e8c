"""Looks on while a server is under fire in this process: faults in its logs, hangs of its loop, its memory."""

import asyncio
import gc
import json
import logging
import resource
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from millrace import log
from tests.support.logs import LOGGERS

T = TypeVar("T")

HANG_S = 1.0  # more is a hang
BEAT_S = 0.05
LATE = 4  # beats that are missing, after which it is looked at what the loop does
PLACES = 12  # of a stack
KEPT = 40  # faults that are shown
MOST_CHARACTERS = 400  # of one
STRANGERS = (  # what a stranger's bytes may make a library say, once a second
    "Invalid HTTP request received.",
    "Unsupported upgrade request.",
    "No supported WebSocket library detected.",
)


class HangError(Exception):
    """Nothing has come for too long, although the loop was free."""


@dataclass(slots=True)
class Watch:
    """What has gone wrong until now, and how busy the loop was."""

    faults: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)  # of Millrace, which are no faults
    beats: int = 0
    worst_turn_s: float = 0.0  # CPU time of this thread between two beats, beyond the wait
    worst_late_s: float = 0.0  # by which a beat came late, whoever had the processor
    worst_place: str = ""  # what ran then, as far as it was seen
    _seen_place: str = ""

    def fault(self, what: str) -> None:
        """Note a fault."""
        what = what[:MOST_CHARACTERS]
        self.faults[what if len(self.faults) < KEPT or what in self.faults else "further faults"] += 1

    async def within(self, awaited: Awaitable[T], seconds: float = HANG_S) -> T:
        """Return what is awaited. Raises `HangError` if it does not come within this time of a loop that is free.

        Time in which the machine or this program keeps the loop from its work is no hang of what is awaited: it is
        counted by beats, which come late then.
        """
        due = self.beats + round(seconds / BEAT_S)
        task = asyncio.ensure_future(awaited)
        try:
            while not (await asyncio.wait([task], timeout=seconds))[0]:
                if self.beats >= due:
                    raise HangError(f"nothing came for {seconds:g} s")
            return task.result()
        finally:
            task.cancel()

    async def beat(self) -> None:
        """Look at the loop until cancelled."""
        while True:
            began, cpu = time.monotonic(), time.thread_time()
            await asyncio.sleep(BEAT_S)
            self.beats += 1
            self.worst_late_s = max(self.worst_late_s, time.monotonic() - began - BEAT_S)
            took, place = time.thread_time() - cpu, self._seen_place
            if took > self.worst_turn_s:
                self.worst_turn_s, self.worst_place = took, place
            if took > HANG_S:
                self.fault(f"the loop did not beat for {took:.2f} s of CPU time: {place}")

    def look(self, thread: int, over: threading.Event) -> None:
        """Note what a thread does whose loop beats late. Called in a thread of its own."""
        beats, looks = -1, 0
        while not over.wait(BEAT_S):
            looks = looks + 1 if self.beats == beats else 0
            beats = self.beats
            if looks == LATE:
                frames = traceback.extract_stack(sys._current_frames()[thread])[-PLACES:]
                self._seen_place = " < ".join(f"{Path(at.filename).name}:{at.lineno}" for at in reversed(frames))


@contextmanager
def watching() -> Iterator[Watch]:
    """Take what is logged, and what nobody has caught, as faults. Nothing of it is written to stderr."""
    watch = Watch()
    handler = _Records(watch)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = sys.stderr, sys.unraisablehook, threading.excepthook
    for logger in loggers:
        logger.addHandler(handler)
    sys.unraisablehook = lambda found: watch.fault(f"unraisable: {found.exc_value!r} in {found.object!r}")
    threading.excepthook = lambda found: watch.fault(f"in a thread: {found.exc_value!r}")
    sys.stderr = _Lines(watch)
    log.configure(level="warning")
    try:
        yield watch
    finally:
        gc.collect()  # tasks whose exceptions nobody has retrieved say so now
        sys.stderr, sys.unraisablehook, threading.excepthook = before
        log.configure(level="critical")
        for logger in loggers:
            logger.removeHandler(handler)


@contextmanager
def beating(watch: Watch) -> Iterator[None]:
    """Have the loop beat, and its own faults noted."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: watch.fault(_of_loop(context)))
    beat, over = loop.create_task(watch.beat()), threading.Event()
    looking = threading.Thread(target=watch.look, args=(threading.get_ident(), over), daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
        beat.cancel()
        loop.set_exception_handler(None)


class _Records(logging.Handler):
    """Records of libraries. What they log of a fault in an application is an error."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(logging.WARNING)
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.ERROR or record.exc_info or not text.startswith(STRANGERS):
            self._watch.fault(f"{record.name}: {text}")


class _Lines:
    """Stands for stderr: each line of Millrace's log is noted."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def write(self, text: str) -> int:
        for line in filter(str.strip, text.splitlines()):
            if line.startswith("WARNING:"):  # of a library, whose record is looked at
                continue
            event: dict[str, Any] = {"level": "error", "event": line}
            with suppress(ValueError):
                event = json.loads(line)
            cause, places = event.get("cause", event.get("error", "")), " < ".join(event.get("at", ()))
            said = f"{event.get('event')}: {cause} {places}"
            if event.get("level") == "warning":
                self._watch.warnings[said.strip()[:120]] += 1
            else:
                self._watch.fault(said)
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        return False


def _of_loop(context: dict[str, Any]) -> str:
    return f"the loop: {context.get('message')} {context.get('exception')!r}"


def resident() -> int:
    """Return the bytes of memory that this process has, once what can be freed is freed. Linux."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def open_files() -> Counter[str]:
    """Return what the file descriptors of this process are, sockets as such. Linux."""
    found: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # of the look itself
            found[str(entry.readlink()).partition(":[")[0]] += 1
    return found
