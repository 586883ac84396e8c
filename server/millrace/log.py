"""Logging: one event per line, as JSON unless stderr is a terminal. Prompts, answers and keys are never logged."""

import logging
import re
import sys
from typing import Any

import structlog


def configure(*, level: str = "info") -> None:
    """Configure structlog to write to standard error."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(sort_keys=True)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get() -> structlog.stdlib.BoundLogger:
    """Return the logger."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger


_SECRET = re.compile(r"(mr_[0-9a-f]{12}_|millrace\.ticket\.)[\w-]+")


def hide_secrets(record: logging.LogRecord) -> bool:
    """A filter for other libraries' loggers: it masks a key or a ticket that a client put into a URL."""
    text = record.getMessage()
    if _SECRET.search(text):
        record.msg, record.args = _SECRET.sub(r"\1…", text), ()
    return True
