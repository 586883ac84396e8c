"""What the tests of the caches share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.stores.database import SqliteDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """A database on the disk."""
    opened = SqliteDatabase(str(tmp_path))
    yield opened
    opened.close()
