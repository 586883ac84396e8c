"""The file of requests, as it is sent: looked through before anything is uploaded."""

import codecs
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from millrace.wire import limits
from millrace.wire.batches import ENDPOINTS

PIECE = 256 * 1024  # bytes that are sent at once


class _Line(msgspec.Struct):
    custom_id: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Requests:
    """A file of requests; `model` is the one that all of them ask for, if one is named."""

    path: Path
    model: str | None
    endpoint: str
    size: int  # bytes, as it is sent
    digest: str  # SHA-256 of what is sent
    custom_ids: tuple[str, ...]  # in the order of the lines

    @property
    def name(self) -> str:
        """What the file is called, in characters that every server takes."""
        name = os.fsencode(self.path.name).decode("utf-8", "replace")
        return "".join(character for character in name if character.isprintable())

    def pieces(self) -> Iterator[bytes]:
        """Yield what is sent."""
        return _pieces(self.path, self.model)


def looked_through(path: Path, model: str | None, endpoint: str | None) -> Requests:
    """Read a file of requests. Raises `click.UsageError` if no server would take it."""
    if not path.is_file():
        raise click.UsageError(f"{path}: it is read more than once, which a pipe cannot be; write it to a file first")
    digest, size, lines = hashlib.sha256(), 0, 0
    custom_ids: list[str] = []
    for line in _lines(path, model):
        digest.update(line)
        size += len(line)
        if not line.strip():
            continue
        lines += 1
        try:
            read = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, UnicodeError):
            continue  # the server says so, in the file of errors
        custom_ids.append(read.custom_id or "")
        if endpoint is None and read.url in ENDPOINTS:
            endpoint = read.url
    if size > limits.BATCH_BYTES or lines > limits.BATCH_LINES:
        most = f"{limits.BATCH_BYTES // 10**6} MB and {limits.BATCH_LINES:,} lines"
        raise click.UsageError(
            f"{path}: {size / 10**6:,.0f} MB and {lines:,} lines; a batch has at most {most}: split it"
        )
    if endpoint is None:
        example = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}'
        raise click.UsageError(f"{path}: no line names one of {', '.join(ENDPOINTS)}; a line is {example}")
    return Requests(path, model, endpoint, size, digest.hexdigest(), tuple(custom_ids))


def _pieces(path: Path, model: str | None) -> Iterator[bytes]:
    piece = bytearray()
    for line in _lines(path, model):
        piece += line
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _lines(path: Path, model: str | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        for line in file:
            yield line if model is None else _asking(line, model)


def _asking(line: bytes, model: str) -> bytes:
    """Return a line whose request asks for a model. What cannot be read stays as it is."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        fields["body"]["model"] = model
    except (msgspec.DecodeError, UnicodeError, KeyError, TypeError):
        return line
    return msgspec.json.encode(fields) + b"\n"
