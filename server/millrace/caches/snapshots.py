"""Indexes on disk, so that a start need not build them again. SQLite has the entries; what is here may be lost.

A file is the SHA-256 of all that follows, the length of a header, the header as JSON (its manifest: version, name of
the embedder, dimensions, rows, the last row), and the arrays. It is written beside its place, synced and renamed. What
is damaged, of another embedder or of another version of hnswlib is deleted and never loaded: a wrong index can crash
the process.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from millrace import log
from millrace.caches.segment import Segment, State
from millrace.types import SEMANTIC_PREFIX

VERSION = 1
FOLDER = "semantic"  # of the data_dir
_SUFFIX, _PARTIAL = ".index", ".partial"
_DIGEST, _LENGTH = 32, 4  # bytes
_ID = 12  # bytes of an id without its prefix; zeros for a row that was removed
_CHUNK = 2**20  # bytes hashed or written at once
_STALE_S = 3600.0  # after which a partial file is no longer written by anyone

PREFIX = SEMANTIC_PREFIX  # of ids

Buffer: TypeAlias = bytes | memoryview


class _Header(msgspec.Struct, kw_only=True):
    version: int
    embedder: str
    dimensions: int
    rows: int
    last_row: str  # its id
    lost: list[int]  # rows that the index does not find
    parameters: dict[str, Any]  # of hnswlib
    arrays: dict[str, tuple[str, int]]  # dtype and length, in the order in which they follow; then the ids


class Snapshots:
    """Files of one folder. Its methods block; call them on one thread, but `bytes_used` anywhere."""

    def __init__(self, folder: Path, embedder: str, dimensions: int, *, max_bytes: int, ttl_s: float) -> None:
        """`embedder` names all that the vectors depend on. The folder is made when it is needed."""
        self.bytes_used = 0  # on disk
        self.copied_bytes = 0  # in memory, of an index that is being loaded
        self._folder = folder
        self._embedder = embedder
        self._dimensions = dimensions
        self._max_bytes = max_bytes
        self.ttl_s = ttl_s  # may change at any time

    def tidy(self) -> None:
        """Count what is there; delete what is too old or not written to its end, and the oldest of what is too much."""
        now, used = time.time(), 0
        files = [(path, _status(path)) for path in self._folder.glob("*")] if self._folder.is_dir() else []
        for path, (changed_at, size) in sorted(files, key=lambda file: file[1], reverse=True):
            is_partial = path.suffix == _PARTIAL
            is_kept = now - changed_at < (_STALE_S if is_partial else self.ttl_s)
            if not is_kept or (not is_partial and used + size > self._max_bytes):
                _delete(path)
            elif not is_partial:
                used += size
        self.bytes_used = used

    def save(self, scope: bytes, key: str, ids: list[str | None], lost: list[int], state: State) -> str:
        """Write one index in place of the one with this key, if there is one; return its key. Raises `OSError`."""
        key = key or secrets.token_hex(8)
        path = self._path(scope, key)
        arrays = {name: array for name, array in state.items() if isinstance(array, np.ndarray)}
        header = _Header(
            version=VERSION,
            embedder=self._embedder,
            dimensions=self._dimensions,
            rows=len(ids),
            last_row=next((id_ for id_ in reversed(ids) if id_ is not None), ""),
            lost=lost,
            parameters={name: value for name, value in state.items() if name not in arrays},
            arrays={name: (array.dtype.str, len(array)) for name, array in arrays.items()},
        )
        head = msgspec.json.encode(header)
        rows = b"".join(bytes(_ID) if id_ is None else bytes.fromhex(id_.removeprefix(PREFIX)) for id_ in ids)
        parts: list[Buffer] = [len(head).to_bytes(_LENGTH), head, *(array.data for array in arrays.values()), rows]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(f".{secrets.token_hex(4)}{_PARTIAL}")
        try:
            _write(partial, parts)
            partial.replace(path)
        except BaseException:
            _delete(partial)
            raise
        _sync(self._folder)
        self.tidy()
        return key

    def load(self, scope: bytes) -> Iterator[Segment]:
        """Yield all sound indexes of a scope, the oldest first; delete the others."""
        try:
            yield from self._sound(scope)
        finally:  # also where no more of them are wanted
            self.copied_bytes = 0

    def remove(self, scope: bytes, key: str) -> None:
        """Delete one index, if it is there."""
        self._delete(self._path(scope, key))

    def _sound(self, scope: bytes) -> Iterator[Segment]:
        for path in sorted(self._folder.glob(f"{scope.hex()}-*{_SUFFIX}"), key=_status):
            self.copied_bytes = 2 * _status(path)[1]
            try:
                segment = self._read(path)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError, msgspec.DecodeError) as error:
                log.get().warning("an index is built again", why=str(error) or type(error).__name__)
                self._delete(path)
            except ImportError:  # without hnswlib it is of no use, but may be later
                return
            else:
                segment.key = path.stem.rpartition("-")[2]
                with suppress(OSError):
                    os.utime(path)  # the least recently used go first
                yield segment

    def _delete(self, path: Path) -> None:
        _delete(path)
        self.tidy()

    def _path(self, scope: bytes, key: str) -> Path:
        return self._folder / f"{scope.hex()}-{key}{_SUFFIX}"

    def _read(self, path: Path) -> Segment:
        """Return an index. Raises `ValueError` if the file is not exactly what was written."""
        whole = memoryview(path.read_bytes())
        if len(whole) < _DIGEST + _LENGTH or _digest([whole[_DIGEST:]]) != bytes(whole[:_DIGEST]):
            raise ValueError("it is damaged")
        at = _DIGEST + _LENGTH
        end = at + int.from_bytes(whole[_DIGEST:at])
        header = msgspec.json.decode(whole[at:end], type=_Header)
        if (header.version, header.embedder, header.dimensions) != (VERSION, self._embedder, self._dimensions):
            raise ValueError("it was made by another version or embedder")
        state: State = dict(header.parameters)
        for name, (kind, length) in header.arrays.items():
            state[name] = np.frombuffer(whole, kind, length, end).copy()  # aligned
            end += state[name].nbytes
        rows = bytes(whole[end:])
        none = bytes(_ID)
        ids = [PREFIX + rows[at : at + _ID].hex() for at in range(0, len(rows), _ID)]
        removed = PREFIX + none.hex()
        if len(ids) != header.rows:
            raise ValueError("it is damaged")
        return Segment.restored(state, [None if id_ == removed else id_ for id_ in ids], header.lost, self._dimensions)


def _write(path: Path, parts: Sequence[Buffer]) -> None:
    with path.open("xb") as file:
        file.write(_digest(parts))
        for part in parts:
            view = memoryview(part).cast("B")
            for begin in range(0, len(view), _CHUNK):
                file.write(view[begin : begin + _CHUNK])
        file.flush()
        os.fsync(file.fileno())


def _digest(parts: Sequence[Buffer]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        view = memoryview(part).cast("B")
        for begin in range(0, len(view), _CHUNK):
            digest.update(view[begin : begin + _CHUNK])
    return digest.digest()


def _sync(folder: Path) -> None:
    """Make sure that a renamed file is found after a power cut, where the system can do that."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _status(path: Path) -> tuple[float, int]:
    """Return when a file was changed, in Unix seconds, and its bytes."""
    try:
        status = path.stat()
    except OSError:
        return 0.0, 0
    return status.st_mtime, status.st_size


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
