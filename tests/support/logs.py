"""Captured logs: of every logger at every level, also of those that do not propagate."""

import io
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from millrace import log

TRACE = 5  # uvicorn's own, below DEBUG
LOGGERS = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "websockets", "asyncio", "aiohttp")


class CapturedLogs(logging.Handler):
    """Keeps every record, and the text that Millrace itself writes."""

    def __init__(self) -> None:
        super().__init__(TRACE)
        self.records: list[logging.LogRecord] = []
        self.from_millrace = io.StringIO()  # what Millrace itself logs

    def emit(self, record: logging.LogRecord) -> None:
        is_known = record in self.records[-10:]  # it passes several loggers
        if not is_known and record.name != "websockets.client":  # ours is no server
            self.records.append(record)

    @property
    def text(self) -> str:
        """Everything, tracebacks too."""
        return "\n".join([*map(logging.Formatter().format, self.records), self.from_millrace.getvalue()])

    @property
    def warnings(self) -> list[str]:
        """Messages of warnings and worse, and of records with a traceback."""
        grave = [record for record in self.records if record.levelno >= logging.WARNING or record.exc_info]
        return [*(record.getMessage() for record in grave), *self.from_millrace.getvalue().splitlines()]


@contextmanager
def captured_logs(*, level: str = "warning") -> Iterator[CapturedLogs]:
    """Capture the logs of a server that has been started: Millrace's own from `level`, all others from the lowest."""
    logs = CapturedLogs()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(TRACE)
        logger.addHandler(logs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", logs.from_millrace)
        log.configure(level=level)
        try:
            yield logs
        finally:
            patch.undo()
            log.configure(level="critical")
            for logger, before in zip(loggers, levels, strict=True):
                logger.setLevel(before)
                logger.removeHandler(logs)


@asynccontextmanager
async def no_warnings_logged() -> AsyncIterator[None]:
    """Assert that no warning, no error and no traceback is logged."""
    with captured_logs() as logs:
        yield
    assert logs.records, "nothing was captured"
    assert logs.warnings == []
