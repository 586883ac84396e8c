"""Reads a file of JSON Lines that a user has made. What is wrong with it is told with its line."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import click

from millrace.errors import MillraceError
from millrace.wire import reading

T = TypeVar("T")


def rows(path: Path, shape: type[T]) -> Iterator[tuple[int, T]]:
    """Return the number of each line that is not blank, and its row. Raises `click.BadParameter`."""
    # Only a line feed ends a line: JSON may have the other line separators in its strings.
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if line.strip():
            try:
                yield number, reading.convert(reading.decode(line, "a row"), shape)
            except MillraceError as error:
                raise refused(path, number, error.message) from None


def refused(path: Path, number: int, message: str) -> click.BadParameter:
    """Return the error of one row."""
    return click.BadParameter(f"{path}, line {number}: {message}", param_hint="PAIRS")
