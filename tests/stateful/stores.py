"""Stores in memory: no call takes time that the manual clock does not see."""

import asyncio

from millrace.types import Answer, Entry, StoredAnswer, StoredResponse


class MemoryLedger:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.entries: dict[str, Entry] = {}
        self.faults: list[str] = []

    def opened(self, entry: Entry) -> None:
        if entry.request_id in self.entries:
            self.faults.append(f"opened once it was settled: {entry}")
        self.open.add(entry.request_id)

    wants_progress = False

    def progressed(self, entry: Entry) -> None:
        self.faults.append(f"nobody wanted to know: {entry}")

    def settled(self, entry: Entry) -> None:
        if entry.request_id in self.entries:
            self.faults.append(f"settled twice: {entry}")
        self.open.discard(entry.request_id)
        self.entries[entry.request_id] = entry


class RoomyDisk:
    """A disk that never falls behind."""

    is_full = False
    queued = queued_bytes = dropped = 0
    oldest_s = 0.0


class MemoryExactCache:
    """An exact cache in memory."""

    def __init__(self) -> None:
        self._answers: dict[bytes, StoredAnswer] = {}

    def peek(self, key: bytes) -> StoredAnswer | None:
        return self._answers.get(key)

    async def find(self, key: bytes) -> StoredAnswer | None:
        await asyncio.sleep(0)
        return self._answers.get(key)

    def store(self, key: bytes, tenant: str, answer: Answer) -> None:
        self._answers[key] = answer.stored(0.0)


class MemoryArchive:
    """An archive in memory."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], StoredResponse] = {}

    def store(self, response: StoredResponse) -> None:
        self._kept[response.tenant, response.id] = response

    async def find(self, tenant: str, response_id: str) -> StoredResponse | None:
        await asyncio.sleep(0)
        return self._kept.get((tenant, response_id))

    async def delete(self, tenant: str, response_id: str) -> bool:
        await asyncio.sleep(0)
        return self._kept.pop((tenant, response_id), None) is not None
