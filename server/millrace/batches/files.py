"""The files of tenants: uploaded in pieces, kept for some days, within a bound of the disk that tenants share."""

import secrets
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from millrace.errors import MillraceError, invalid
from millrace.memory import Shares
from millrace.ports import BatchDisk, BatchStore, Clock
from millrace.types import FilePurpose, KeptFile
from millrace.wire import limits
from millrace.wire.batches import too_big

PIECE = 2**20  # bytes that are written at once
MAX_NAME = 255  # characters of a file's name
DAY_S = 86_400.0


class Upload:
    """A file on its way to the disk."""

    def __init__(self, files: "Files", tenant: str) -> None:
        self.id = new_file_id()
        self.size = self.written = 0  # bytes
        self.is_kept = False
        self._files = files
        self._tenant = tenant
        self._waiting = bytearray()
        self._newlines = 0
        self._lines = 0  # up to the last one that is not blank

    @property
    def name_on_disk(self) -> str:
        """Where its bytes are until it is whole."""
        return f"{self.id}.part"

    async def add(self, data: bytes) -> None:
        """Add bytes. Raises `message_too_big` at the first one over the limits, `overloaded` if the disk is full."""
        self.size += len(data)
        if self.size > limits.BATCH_BYTES:
            raise too_big(f"{limits.BATCH_BYTES // 10**6} MB")
        if written := data.rstrip():
            self._lines = self._newlines + written.count(b"\n") + 1
            if self._lines > limits.BATCH_LINES:
                raise too_big(f"{limits.BATCH_LINES:,} lines")
        self._newlines += data.count(b"\n")
        self._waiting += data
        if len(self._waiting) >= PIECE:
            await self._write()

    async def keep(self, name: str, expires_after_s: float | None = None) -> KeptFile:
        """Keep what has come as a file of this name."""
        await self._write()
        await self._files.disk.rename(self.name_on_disk, self.id)
        made = self._files.made(self.id, self._tenant, FilePurpose.BATCH, name, self.size, expires_after_s)
        kept = await self._files.keep(made)
        self.is_kept = True
        return kept

    async def _write(self) -> None:
        self._files.check_fits(self._tenant, len(self._waiting))
        piece, self._waiting = bytes(self._waiting), bytearray()
        self._files.shares.count(self._tenant, len(piece))  # until it is kept, or given up
        self.written += len(piece)
        try:
            await self._files.disk.append(self.name_on_disk, piece)
        except OSError as error:
            raise MillraceError("overloaded", f"the file was not written: {error.strerror}; try again later") from error


class Files:
    """All files of this server."""

    def __init__(
        self,
        disk: BatchDisk,
        store: BatchStore,
        wall: Clock,
        *,
        keep_days: int,
        most_bytes: int,
        are_many: Callable[[], bool],
    ) -> None:
        self.disk = disk
        self.shares = Shares(lambda: most_bytes - self.shares.used, are_many)
        self._store = store
        self._wall = wall
        self._keep_s = keep_days * DAY_S
        self._most_bytes = most_bytes

    async def begin(self, *, alone: bool, in_use: frozenset[str]) -> None:
        """Count what is kept. `alone`: what nobody knows is removed, but for the files that are `in_use`."""
        kept = await self._store.all_files()
        for file in kept:
            self.shares.count(file.tenant, file.size)
        if alone:
            await self.disk.remove_all_but({file.id for file in kept} | in_use)

    async def prune(self, in_use: Collection[str]) -> None:
        """Remove what has expired, but for files that are `in_use`."""
        now = self._wall()
        expired = await self._store.forget(now, now - self._keep_s, in_use)
        await self._removed(*expired)

    @asynccontextmanager
    async def receiving(self, tenant: str) -> AsyncIterator[Upload]:
        """Take a file. What is not kept leaves nothing behind."""
        upload = Upload(self, tenant)
        self.check_fits(tenant, 0)
        try:
            yield upload
        finally:
            self.shares.count(tenant, -upload.written)
            left = () if upload.is_kept else (upload.id,)
            await self.disk.remove([upload.name_on_disk, *left])

    def check_fits(self, tenant: str, size: int) -> None:
        """Raise if a tenant may keep no more bytes."""
        if self.shares.lack(tenant, size) > 0:
            held = self.shares.held(tenant) / 10**6
            message = f"file: your files have {held:,.0f} MB of the server's disk, and there is no room for this one"
            raise MillraceError("overloaded", f"{message}; delete some: DELETE /v1/files/FILE_ID", param="file")

    async def keep(self, file: KeptFile) -> KeptFile:
        """Keep a file whose bytes are on disk."""
        await self._store.add_file(file)
        self.shares.count(file.tenant, file.size)
        return file

    def made(
        self,
        file_id: str,
        tenant: str,
        purpose: FilePurpose,
        name: str,
        size: int,
        expires_after_s: float | None = None,
    ) -> KeptFile:
        """Return the row of a file that is not kept yet."""
        now = self._wall()
        return KeptFile(
            id=file_id,
            tenant=tenant,
            purpose=purpose,
            name="".join(character for character in name if character.isprintable())[:MAX_NAME] or "unnamed.jsonl",
            size=size,
            created_at=now,
            expires_at=now + min(self._keep_s, expires_after_s or self._keep_s),
        )

    async def find(self, tenant: str, file_id: str) -> KeptFile:
        """Return a file of a tenant. Raises `file_not_found`."""
        file = await self._store.file(tenant, file_id)
        if file is None:
            raise file_not_found(file_id)
        return file

    async def piece(self, file: KeptFile, start: int, most: int) -> bytes:
        """Return so many bytes of a file from a place on, at most; none if it is there no more."""
        try:
            return await self.disk.read(file.id, start, most)
        except FileNotFoundError:
            return b""

    async def page(
        self, tenant: str, after: str | None, limit: int, *, oldest_first: bool, purpose: str | None
    ) -> tuple[list[KeptFile], bool]:
        """Return files that come after one, and whether there are more."""
        if purpose is not None and purpose not in [*FilePurpose]:
            raise invalid("purpose", f"purpose: {purpose[:40]!r} is not one of {', '.join(FilePurpose)}")
        wanted = None if purpose is None else FilePurpose(purpose)
        found = await self._store.files(tenant, after, limit + 1, oldest_first=oldest_first, purpose=wanted)
        if found is None:
            raise invalid("after", f"after: {(after or '')[:80]!r} is none of your files")
        return found[:limit], len(found) > limit

    async def delete(self, tenant: str, file_id: str) -> None:
        """Delete a file. Raises `file_not_found`."""
        file = await self._store.delete_file(tenant, file_id)
        if file is None:
            raise file_not_found(file_id)
        await self._removed(file)

    async def _removed(self, *files: KeptFile) -> None:
        for file in files:
            self.shares.count(file.tenant, -file.size)
        await self.disk.remove([file.id for file in files])


def new_file_id() -> str:
    """Return an id that no file has."""
    return f"file-{secrets.token_hex(12)}"


def file_not_found(file_id: str, param: str | None = None) -> MillraceError:
    """Return the error of a file that a tenant does not have."""
    message = f"no file {file_id[:80]!r}; it may have expired, or be another tenant's"
    return MillraceError("file_not_found", f"{param}: {message}" if param else message, param=param)
