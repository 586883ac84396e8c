"""Which processes use a data_dir, by locks on files in it: one serves, and others may still end what they run.

The kernel frees a lock when its process ends, however it ends, so no lock is ever stale and no pid is trusted.
"""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from millrace import log
from millrace.beat import beat

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SERVICE = "millrace.lock"  # held by the process that serves; it contains its pid
FIRST = "first.lock"  # held by the first of several workers; it contains its place
PROCESS = "process-{}.lock"  # held by each process while it may write; named by its epoch
CLAIM_S = 1.0  # for a process that was told to stop just now to begin its drain
CLAIM_EVERY_S = 0.05
FIRST_EVERY_S = 0.25  # between two tries of the other workers to become the first


class DataDirInUseError(OSError):
    """Another process serves this data_dir. `pid` is 0 if it is not known."""

    def __init__(self, data_dir: str, pid: int) -> None:
        who = f"by the server with pid {pid}" if pid else "by another server"
        super().__init__(f"data_dir {data_dir!r} is in use {who}; stop it, or name another folder")
        self.pid = pid


class DataDirClaim:
    """The right to serve a data_dir, until it is released or all processes that inherited it have ended."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor  # None: nothing is locked

    def release(self) -> None:
        """Let another process serve. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # no LOCK_UN: it would also release the copies of other processes
            self._descriptor = None


class Processes:
    """This process among those that write to a data_dir. Each is known by its epoch."""

    def __init__(self, data_dir: str, epoch: str) -> None:
        self.epoch = epoch
        self._folder = Path(data_dir)
        self._own = self._folder / PROCESS.format(epoch)
        unready = self._folder / f".{epoch}"  # it gets its name once it is locked, or others could think it dead
        self._descriptor = _locked(unready)
        if self._descriptor is None:
            unready.unlink(missing_ok=True)
        else:
            unready.rename(self._own)

    def others(self) -> frozenset[str]:
        """Return the epochs of the other living processes. The files of dead ones are removed."""
        return living(str(self._folder)) - {self.epoch}

    def leave(self) -> None:
        """Say that this process writes no more."""
        if self._descriptor is not None:
            self._own.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


class First:
    """Which of the workers on a data_dir does what must be done once. A process without others always is the first."""

    def __init__(self, data_dir: str | None, place: str = "") -> None:
        """`data_dir` None: there are no other workers."""
        self._path = None if data_dir is None else Path(data_dir, FIRST)
        self._place = place
        self._descriptor: int | None = None
        self._is_due = asyncio.Event()
        if self._path is None:
            self._is_due.set()

    @property
    def is_here(self) -> bool:
        """Whether it is this process."""
        return self._is_due.is_set()

    def take(self) -> bool:
        """Become the first if nobody is; whether this process is it."""
        if self._path is None or self._descriptor is not None:
            return True
        try:
            self._descriptor = _locked(self._path)
        except BlockingIOError:
            return False
        if self._descriptor is not None:  # else nothing is locked here, and all do everything
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, self._place.encode(), 0)
        self._is_due.set()
        return True

    def place(self) -> str:
        """Return the place of the first one; empty if there is none now."""
        with suppress(OSError):
            return "" if self._path is None else self._path.read_text("ascii")
        return ""

    async def follow(self) -> None:
        """Become the first once nobody is."""
        while not self.is_here:
            await beat(FIRST_EVERY_S)
            self.take()

    async def due(self) -> None:
        """Wait until this process is the first."""
        await self._is_due.wait()

    def leave(self) -> None:
        """Let another one be the first."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def living(data_dir: str) -> frozenset[str]:
    """Return the epochs of all processes that serve this data_dir, or still end what they run."""
    prefix, suffix = PROCESS.split("{}")
    alive = [path.name for path in Path(data_dir).glob(PROCESS.format("*")) if not _removed_if_dead(path)]
    return frozenset(name.removeprefix(prefix).removesuffix(suffix) for name in alive)


def is_served(data_dir: str) -> bool:
    """Whether a process serves this data_dir, as far as this place has locks."""
    path = Path(data_dir) / SERVICE
    if not path.exists():
        return False
    try:
        descriptor = _locked(path)
    except BlockingIOError:
        return True
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def claim(data_dir: str) -> DataDirClaim:
    """Take the right to serve a data_dir, which is created if needed. Raises `DataDirInUseError` within a second or so.

    A server releases it when its drain begins, so the next one need not wait for the end of the drain.
    """
    folder = Path(data_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + CLAIM_S
    while True:
        try:
            descriptor = _locked(folder / SERVICE)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise DataDirInUseError(data_dir, _pid(folder / SERVICE)) from None
            time.sleep(CLAIM_EVERY_S)
            continue
        if descriptor is None:
            log.get().warning("data_dir cannot be locked here, so start no second server on it", data_dir=data_dir)
            return DataDirClaim(None)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return DataDirClaim(descriptor)


def _locked(path: Path) -> int | None:
    """Return a descriptor of a file that is locked by this process alone; None if this place has no locks.

    Raises `BlockingIOError` if another process has locked it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def _removed_if_dead(path: Path) -> bool:
    try:
        descriptor = _locked(path)
    except BlockingIOError:
        return False
    if descriptor is not None:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
    return True


def _pid(path: Path) -> int:
    with suppress(OSError, ValueError):
        return int(path.read_text("ascii"))
    return 0
