"""All that is logged, at every level, by whomever: also by loggers that tell nobody above them."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from millrace import log

TRACE = 5  # uvicorn's own, below DEBUG
LOGGERS = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "websockets", "asyncio", "aiohttp")


class Overheard(logging.Handler):
    """Keeps every record as the text it would be written as."""

    def __init__(self) -> None:
        super().__init__(TRACE)
        self.records: list[logging.LogRecord] = []
        self.own = io.StringIO()  # what Millrace itself logs

    def emit(self, record: logging.LogRecord) -> None:
        if record not in self.records and record.name != "websockets.client":  # it passes several; ours is no server
            self.records.append(record)

    @property
    def text(self) -> str:
        """Everything, tracebacks too."""
        return "\n".join([*map(logging.Formatter().format, self.records), self.own.getvalue()])

    @property
    def alarms(self) -> list[str]:
        """What is a warning, or worse, or has a traceback."""
        grave = [record for record in self.records if record.levelno >= logging.WARNING or record.exc_info]
        return [*(record.getMessage() for record in grave), *self.own.getvalue().splitlines()]


@contextmanager
def overhearing(*, level: str = "warning") -> Iterator[Overheard]:
    """Listen to a server that has been started; Millrace's own log from `level`, everyone else's from the lowest."""
    overheard = Overheard()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(TRACE)
        logger.addHandler(overheard)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", overheard.own)
        log.configure(level=level)
        try:
            yield overheard
        finally:
            patch.undo()
            log.configure(level="critical")
            for logger, before in zip(loggers, levels, strict=True):
                logger.setLevel(before)
                logger.removeHandler(overheard)
