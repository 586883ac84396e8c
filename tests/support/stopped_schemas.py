"""A schema process that is held still."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from millrace.schemas import SchemaProcess


@contextmanager
def stopped(schemas: SchemaProcess) -> Iterator[None]:
    """Keep the process from doing anything."""
    assert schemas._process is not None
    os.kill(schemas._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(schemas._process.pid, signal.SIGCONT)
