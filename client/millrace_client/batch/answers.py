"""The answers of a batch on this machine: in the order of the requests, and whole or not there at all."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import msgspec


class _Line(msgspec.Struct):
    custom_id: str | None = None
    line: int | None = None


async def saved(
    pieces: AsyncIterator[bytes], path: Path, custom_ids: Sequence[str], on_bytes: Callable[[float], object]
) -> None:
    """Write a file of answers, or of errors, in the order of the requests. A link stays one."""
    path, part, ordered = _places(path)
    try:
        with _naming(path):
            file = part.open("wb", 0)
        with file:
            async for piece in pieces:
                with _naming(path):
                    _write(file, piece)
                on_bytes(len(piece))
        with _naming(path):
            _sort(part, ordered, custom_ids)
            ordered.replace(path)
    finally:
        part.unlink(missing_ok=True)
        ordered.unlink(missing_ok=True)


def write_nothing(path: Path) -> None:
    """Write an empty file: there is no answer."""
    path.write_bytes(b"")


def _places(path: Path) -> tuple[Path, Path, Path]:
    """Return where a file is to be, and where it is until it is whole, and until it is in order."""
    path = path.resolve()
    return path, path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.sorted")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have a fault of the disk name the file: a full one does not, and looks like one of the network."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


def _sort(path: Path, ordered: Path, custom_ids: Sequence[str]) -> None:
    """Write the lines of a file in order: by their line in the input, or by the place of their `custom_id` there."""
    place = {custom_id: at for at, custom_id in reversed([*enumerate(custom_ids)])}
    found: list[tuple[int, int, int]] = []  # place, start, size
    with path.open("rb") as file:
        start = 0
        for text in file:
            read = msgspec.json.decode(text, type=_Line)
            at = read.line if read.line is not None else place.get(read.custom_id or "", len(place))
            found.append((at, start, len(text)))
            start += len(text)
        with ordered.open("wb") as out:
            for _, start, size in sorted(found):
                file.seek(start)
                out.write(file.read(size))
            out.flush()
            os.fsync(out.fileno())
