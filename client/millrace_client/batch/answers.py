"""The answers of a batch on this machine: in the order of the requests, and whole or not there at all."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec


class _Line(msgspec.Struct):
    custom_id: str | None = None
    line: int | None = None


async def saved(
    pieces: AsyncIterator[bytes], path: Path, custom_ids: Sequence[str], on_bytes: Callable[[float], object]
) -> None:
    """Write a file of answers, or of errors, in the order of the requests."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            async for piece in pieces:
                file.write(piece)
                on_bytes(len(piece))
        _sort(part, custom_ids)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_nothing(path: Path) -> None:
    """Write an empty file: there is no answer."""
    path.write_bytes(b"")


def _sort(path: Path, custom_ids: Sequence[str]) -> None:
    """Sort the lines of a file: by their line in the input, or by the place of their `custom_id` there."""
    place = {custom_id: at for at, custom_id in reversed([*enumerate(custom_ids)])}
    found: list[tuple[int, int, int]] = []  # place, start, size
    with path.open("rb") as file:
        start = 0
        for text in file:
            read = msgspec.json.decode(text, type=_Line)
            at = read.line if read.line is not None else place.get(read.custom_id or "", len(place))
            found.append((at, start, len(text)))
            start += len(text)
        ordered = path.with_name(f"{path.name}.sorted")
        with ordered.open("wb") as out:
            for _, start, size in sorted(found):
                file.seek(start)
                out.write(file.read(size))
            out.flush()
            os.fsync(out.fileno())
    ordered.replace(path)
