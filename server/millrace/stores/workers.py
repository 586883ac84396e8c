"""The workers of one server: each says in a file at which address the others reach it. The supervisor removes it."""

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from millrace.beat import beat
from millrace.ports.replicas import PLACE, Worker
from millrace.stores.processes import First

_COUNTED = "counted-"  # prefix of a file with what a worker has counted
COUNTED_S = 2.0  # between two of its writes; what a worker counts after the last one is lost with it
LOOK_S = 1.0  # between two looks at who lives; whom somebody asks for is looked for at once


class FileShelf:
    """Small values that one of the workers takes. They are files, which the kernel lets one process remove."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def put(self, key: bytes, value: bytes) -> None:
        """Keep a value."""
        self._path(key).write_bytes(value)

    def take(self, key: bytes) -> bytes | None:
        """Return a value and keep it no more; None if it is not there, or another one has taken it."""
        path = self._path(key)
        try:
            value = path.read_bytes()
            path.unlink()
        except FileNotFoundError:
            return None
        return value

    def _path(self, key: bytes) -> Path:
        return self._folder / f"shelf-{key.hex()}"


class WorkerFiles:
    """The other workers, as they are known to this one."""

    def __init__(self, worker: Worker, epoch: str, first: First) -> None:
        self.place = epoch[:PLACE]
        self.count = worker.count
        self.shelf = FileShelf(worker.folder)
        self._worker = worker
        self._first = first
        self._known: dict[str, str] = {}

    @property
    def others(self) -> list[str]:
        """The URLs of the others that serve."""
        return [*self._known.values()]

    def where(self, place: str) -> str | None:
        """Return where a client finds what that worker has."""
        if place not in self._known:
            return None
        return "another worker has this response: GET /v1/responses/{id}?stream=true shows it, wherever it is asked"

    async def find(self, place: str) -> str | None:
        """Return the URL of another worker, and look for it where it is not known."""
        if place != self.place and place not in self._known:
            await self.look()
        return self._known.get(place)

    async def first(self) -> str | None:
        """Return the URL of the one that does what must be done once; None for this one. Raises `LookupError`."""
        if self._first.is_here:
            return None
        place = await asyncio.to_thread(self._first.place)
        address = await self.find(place)
        if address is None:
            raise LookupError("no worker is the first one now")
        return address

    async def announce(self) -> None:
        """Say that this one serves."""
        await asyncio.to_thread(self._write)
        await self.look()

    async def look(self) -> None:
        """Read who else serves."""
        self._known = await asyncio.to_thread(self._read)

    async def left(self) -> list[bytes]:
        """Return what workers that are gone have counted, as they have told it last."""
        return await asyncio.to_thread(self._left)

    async def leave(self, counted: Callable[[], bytes]) -> None:
        """Write again and again, until cancelled, what this one has counted: the others show it once it is gone."""
        path = Path(self._worker.folder, f"{_COUNTED}{self._worker.number}")
        try:
            while True:
                await beat(COUNTED_S)
                await asyncio.to_thread(lambda: _replace(path, counted()))
        finally:
            with suppress(OSError):
                _replace(path, counted())

    async def follow(self) -> None:
        """Read it again and again until cancelled."""
        while True:
            await self.look()
            await beat(LOOK_S)

    def _write(self) -> None:
        told = json.dumps({"place": self.place, "address": self._worker.address, "pid": os.getpid()})
        _replace(Path(self._worker.folder, str(self._worker.number)), told.encode())

    def _read(self) -> dict[str, str]:
        found = {}
        for path in Path(self._worker.folder).glob("[0-9]*"):
            with suppress(OSError):  # it was removed just now
                told = json.loads(path.read_bytes())
                found[told["place"]] = told["address"]
        found.pop(self.place, None)
        return found

    def _left(self) -> list[bytes]:
        found = []
        for path in Path(self._worker.folder).glob(f"{_COUNTED}*"):
            number = path.name.removeprefix(_COUNTED)
            if number != str(self._worker.number) and not path.with_name(number).exists():
                found.append(path.read_bytes())
        return found


def _replace(path: Path, content: bytes) -> None:
    unready = path.with_name(f".{path.name}")
    unready.write_bytes(content)
    unready.replace(path)
