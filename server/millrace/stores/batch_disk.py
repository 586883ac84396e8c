"""The files of batches in a folder, one thread for all of them: what is asked is done in order.

An append is one write to the end of the file. A process that is killed leaves whole lines, and at most one torn one at
the end, which is cut when the batch goes on.
"""

import asyncio
import os
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from millrace.ports import FileLine

T = TypeVar("T")

BUFFER = 256 * 1024  # bytes that are read at once
MODE = 0o600  # prompts and answers are in them


class FolderBatchDisk:
    """Files in `folder`, which is made when it is first needed. `longest` bounds the lines that are read, in bytes."""

    def __init__(self, folder: Path, *, longest: int) -> None:
        self._folder = folder
        self._longest = longest
        self._thread = ThreadPoolExecutor(1, "millrace-batches")

    async def append(self, file_id: str, data: bytes) -> None:
        """Append, all or nothing."""
        await self._run(partial(self._append, file_id, data))

    async def lines(self, file_id: str, look: Callable[[FileLine], bool], start: int = 0, number: int = 1) -> None:
        """Call `look` with each line."""
        await self._run(partial(self._lines, file_id, look, start, number))

    async def read(self, file_id: str, start: int, most: int) -> bytes:
        """Return a piece of a file."""
        return await self._run(partial(self._read, file_id, start, most))

    async def cut(self, file_id: str, size: int) -> None:
        """Cut a file."""

        def cut() -> None:
            with suppress(FileNotFoundError):
                os.truncate(self._path(file_id), size)

        await self._run(cut)

    async def rename(self, file_id: str, new_id: str) -> None:
        """Sync a file, then give it another name."""

        def rename() -> None:
            self._sync(file_id)
            self._path(file_id).rename(self._path(new_id))

        await self._run(rename)

    async def sync(self, file_id: str) -> int:
        """Sync a file."""
        return await self._run(partial(self._sync, file_id))

    async def remove(self, file_ids: Collection[str]) -> None:
        """Remove files."""

        def remove() -> None:
            for file_id in file_ids:
                self._path(file_id).unlink(missing_ok=True)

        await self._run(remove)

    async def remove_all_but(self, file_ids: Collection[str]) -> None:
        """Remove what nobody knows of: uploads that were cut off, output of batches that are forgotten."""

        def remove() -> None:
            known = frozenset(file_ids)
            for path in self._folder.glob("*") if self._folder.is_dir() else ():
                if path.name not in known and path.is_file():
                    path.unlink(missing_ok=True)

        await self._run(remove)

    def close(self) -> None:
        """Wait for what has begun. Blocks."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _path(self, file_id: str) -> Path:
        return self._folder / file_id

    def _append(self, file_id: str, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path(file_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, MODE)
        try:
            before = os.fstat(descriptor).st_size
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
            except OSError:  # such as a full disk, after a part of it
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)

    def _lines(self, file_id: str, look: Callable[[FileLine], bool], start: int, number: int) -> None:
        with suppress(FileNotFoundError), self._path(file_id).open("rb", BUFFER) as file:
            file.seek(start)
            while text := file.readline(self._longest + 2):
                is_long = len(text) > self._longest + 1
                if is_long:
                    text = _last_piece(file, text)
                end = file.tell()
                is_whole = text.endswith(b"\n")
                stripped = text.rstrip(b"\r\n")
                if not look(FileLine(number, start, end, None if is_long else stripped, is_whole)):
                    return
                start, number = end, number + 1
                time.sleep(0)  # others may have Python's lock now

    def _read(self, file_id: str, start: int, most: int) -> bytes:
        with self._path(file_id).open("rb", 0) as file:
            file.seek(start)
            return file.read(most)

    def _sync(self, file_id: str) -> int:
        try:
            descriptor = os.open(self._path(file_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            os.fsync(descriptor)
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)


def _last_piece(file: BinaryIO, text: bytes) -> bytes:
    """Pass over the rest of a line; return its last piece."""
    while not text.endswith(b"\n") and (more := file.readline(BUFFER)):
        text = more
    return text
