"""What the tests of the caches share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.caches import scopes, segment, table
from millrace.stores.database import SqliteDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """A database on the disk."""
    opened = SqliteDatabase(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def few_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large in the semantic cache begins at a few entries."""
    monkeypatch.setattr(segment, "ROWS", 100)
    monkeypatch.setattr(scopes, "SAVED_ABOVE", 20)
    monkeypatch.setattr(table, "PAGE", 30)
