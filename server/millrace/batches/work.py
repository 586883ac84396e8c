"""One batch while it is run: which lines need an answer still, the next ones, and what is written for each.

What has ended is in the two output files and nowhere else. A line of them is whole or cut away, so a process that is
killed knows at its next start which lines have their answer.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from millrace import log
from millrace.batches.asking import LineAnswer
from millrace.errors import MillraceError, invalid
from millrace.ports import BatchDisk, BatchStore, FileLine
from millrace.pricing import ZERO
from millrace.types import Batch, BatchStatus, ProvidedPart
from millrace.wire import limits
from millrace.wire.batches import BadLineError, LineEnded, LineError, LineResponse, line_id, line_of, read_line

AHEAD_BYTES = 2**20  # of lines that are read before their turn; one alone may be longer
AHEAD_LINES = 64
CAME_BYTES = 240  # of the place of a provider's answer, about
DISK_AGAIN_S = 1.0
NOTE_EVERY_S = 1.0
EXPIRED = "This request could not be executed before the completion window expired."  # in OpenAI's words

_PENDING, _TAKEN, _ENDED, _ASIDE = range(4)  # of a line: to be read, on its way, done, with a provider


class Line(Struct):
    """A line that has its turn, or will."""

    number: int
    text: bytes
    tries: int = 0  # that failed
    answers_before: int = 0  # of other lines, when it was first tried


class Came(NamedTuple):
    """Where the answer to a line is that a provider has given in its own batch."""

    file_id: str
    start: int  # byte
    size: int
    model: str  # that has answered
    held: Decimal  # dollars that are reserved for it, of the batches' own budget


class Work:
    """A batch that is run by this process."""

    def __init__(self, batch: Batch, disk: BatchDisk, store: BatchStore, wall: Callable[[], float]) -> None:
        self.batch = batch
        self.waits_for = ""
        self.rests_until = 0.0  # by the clock
        self.failures = 0  # since the last answer
        self.answers = 0  # in this process
        self.provider_waits_for = ""  # what the lines wait for that a provider answers
        self.held = ZERO  # dollars that are reserved for what providers answer, of the batches' own budget
        self.books_until: float | None = None  # by the clock, what providers have answered; None: it does not end yet
        self.fault: BaseException | None = None  # why what became of a line was not written
        self._disk = disk
        self._store = store
        self._wall = wall
        self._noted_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self.fault = None
        self.again: deque[Line] = deque()  # those that are asked once more
        self._states = bytearray(limits.BATCH_LINES + 1)  # by number of the line
        self._came: dict[int, Came] = {}  # what providers have answered and nobody has used, by number of the line
        self._ahead: deque[Line] = deque()
        self._at, self._number = 0, 1  # of the next line that is read
        self._is_read = False
        self._is_given_back = False  # a provider has; so the file is read once more
        self._ahead_bytes = 0  # of the lines that were read last

    async def examine(self) -> None:
        """Find out what is to be done: what has ended already, and which lines cannot be run at all.

        The latter go to the error file. `total`, `completed` and `failed` are known afterwards.
        """
        self._begin()
        batch = self.batch
        completed = await self._read_ended(batch.output_file_id)
        failed = await self._read_ended(batch.error_file_id)
        bad: list[int] = []
        written = bytearray()
        first: dict[str, int] = {}  # line by custom_id
        total = 0

        def look(line: FileLine) -> bool:
            nonlocal total
            if line.text is None or line.text.strip():
                total += 1
                fault = _fault(line, batch.endpoint, first)
                if fault is not None and not self._has_ended(line.number):
                    error = LineError(code=fault.error.code, message=fault.error.message, param=fault.error.param)
                    written.extend(self._written(line.number, fault.custom_id, error=error))
                    bad.append(line.number)
            return True

        await self._disk.lines(batch.input_file_id, look)
        if bad:
            await self._append(batch.error_file_id, bytes(written))
        for number in bad:
            if number < len(self._states):
                self._states[number] = _ENDED
        # It may have been cancelled meanwhile.
        self.batch = replace(self.batch, total=total, completed=completed, failed=failed + len(bad))

    async def next(self) -> Line | None:
        """Return the next line to be run; None if there is none now."""
        if self.again:
            return self.again.popleft()
        while not self._ahead:
            if self._is_given_back:
                self._at, self._number, self._is_read, self._is_given_back = 0, 1, False, False
            if self._is_read:
                return None
            await self._read_ahead()
        return self._ahead.popleft()

    @property
    def has_more(self) -> bool:
        """Whether there are lines to be run now that `next` may not have seen."""
        return bool(self.again) or self._is_given_back

    @property
    def bytes_used(self) -> int:
        """Bytes that it holds, about."""
        return len(self._states) + self._ahead_bytes + CAME_BYTES * len(self._came)

    async def ended(self, line: Line, answer: LineAnswer) -> None:
        """Write what became of a line. It waits for a full disk as long as it takes."""
        batch, is_answered = self.batch, answer.error is None
        custom_id = answer.custom_id or _custom_id(line.text, batch.endpoint)
        if answer.is_line and answer.error is not None:
            error = LineError(code=answer.error.code, message=answer.error.message, param=answer.error.param)
            written = self._written(line.number, custom_id, error=error)
        else:
            response = LineResponse(status_code=answer.status, request_id=answer.request_id, body=Raw(answer.body))
            written = self._written(line.number, custom_id, response=response, is_answered=is_answered)
        await self._append(batch.output_file_id if is_answered else batch.error_file_id, written)
        self._states[line.number] = _ENDED
        self.answers += is_answered
        batch = self.batch  # others may have ended meanwhile
        self.batch = replace(
            batch,
            completed=batch.completed + is_answered,
            failed=batch.failed + (not is_answered),
            cost=batch.cost + answer.cost,
            saved=batch.saved + answer.saved,
        )
        self.note()

    async def expire(self) -> None:
        """Write for each line that has not ended that its time is over."""
        batch, count = self.batch, 0
        pieces: list[bytes] = []
        error = LineError(code="batch_expired", message=EXPIRED)

        def look(line: FileLine) -> bool:
            if (line.text is None or line.text.strip()) and not self._has_ended(line.number):
                pieces.append(self._written(line.number, _custom_id(line.text, batch.endpoint), error=error))
            return True

        await self._disk.lines(batch.input_file_id, look)
        for at in range(0, len(pieces), AHEAD_LINES):
            some = pieces[at : at + AHEAD_LINES]
            await self._append(batch.error_file_id, b"".join(some))
            count += len(some)
        self.batch = replace(self.batch, failed=self.batch.failed + count)

    async def pending(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the lines that have not been looked at: their numbers and texts."""
        at, number = 0, 1
        while True:
            found: list[tuple[int, bytes]] = []
            size, is_end = 0, True

            def look(line: FileLine, found: list[tuple[int, bytes]] = found) -> bool:
                nonlocal at, number, size, is_end
                at, number = line.end, line.number + 1
                if self._is_pending(line):
                    found.append((line.number, line.text or b""))
                    size += len(line.text or b"")
                is_end = size < AHEAD_BYTES and len(found) < AHEAD_LINES
                return is_end

            await self._disk.lines(self.batch.input_file_id, look, at, number)
            for each in found:
                yield each
            if is_end:
                return

    def _has_ended(self, number: int) -> bool:
        return number < len(self._states) and self._states[number] == _ENDED

    def _is_pending(self, line: FileLine) -> bool:
        is_new = line.number < len(self._states) and self._states[line.number] == _PENDING
        return is_new and line.text is not None and bool(line.text.strip())

    @property
    def is_elsewhere(self) -> bool:
        """Whether a provider has some of its lines."""
        return _ASIDE in self._states

    def set_aside(self, numbers: Iterable[int]) -> None:
        """Leave lines to a provider."""
        for number in numbers:
            if self._states[number] == _PENDING:
                self._states[number] = _ASIDE

    def give_back(self, numbers: Iterable[int], came: Mapping[int, Came]) -> int:
        """Take lines back from a provider, and where its answers are; return how many of these are of use."""
        count = len(self._came)
        for number in numbers:
            if self._states[number] == _ASIDE:
                self._states[number] = _PENDING
                if number in came:
                    self._came[number] = came[number]
        self._is_given_back = True
        return len(self._came) - count

    def came(self, line: Line) -> Came | None:
        """Return where a provider's answer to a line is; None if none has answered it, or that is used up."""
        return self._came.get(line.number)

    def use_up(self, line: Line) -> None:
        """Use what a provider has answered to a line no more."""
        self._came.pop(line.number, None)

    @property
    def has_come(self) -> bool:
        """Whether providers have answered lines that have not ended."""
        return bool(self._came)

    async def provide(self, parts: tuple[ProvidedPart, ...]) -> None:
        """Keep which of its lines providers have."""
        self.batch = replace(self.batch, provided=parts)
        await self._store.put(self.batch)

    async def reach(self, status: BatchStatus) -> None:
        """Keep that it has reached a status."""
        self.batch = replace(self.batch, status=status, reached=self.batch.reached | {status: self._wall()})
        await self._store.put(self.batch)

    def note(self) -> None:
        """Keep how far it is, once in a while."""
        if (now := self._wall()) - self._noted_at >= NOTE_EVERY_S:
            self._noted_at = now
            self._store.note(self.batch)

    async def _read_ended(self, file_id: str) -> int:
        """Note the lines that an output file has; return how many. A torn line at its end is cut away."""
        count, whole = 0, 0

        def look(line: FileLine) -> bool:
            nonlocal count, whole
            number = line_of(line.text) if line.is_whole and line.text is not None else None
            if line.is_whole:
                whole = line.end
            if number is not None and number < len(self._states) and self._states[number] != _ENDED:
                self._states[number] = _ENDED
                count += 1
            return True

        await self._disk.lines(file_id, look)
        await self._disk.cut(file_id, whole)
        return count

    async def _read_ahead(self) -> None:
        found: list[Line] = []
        size = 0
        was_stopped = False

        def look(line: FileLine) -> bool:
            nonlocal size, was_stopped
            self._at, self._number = line.end, line.number + 1
            if self._is_pending(line):
                self._states[line.number] = _TAKEN
                found.append(Line(line.number, line.text or b""))
                size += len(line.text or b"")
            was_stopped = size >= AHEAD_BYTES or len(found) >= AHEAD_LINES
            return not was_stopped

        await self._disk.lines(self.batch.input_file_id, look, self._at, self._number)
        self._ahead.extend(found)
        self._ahead_bytes = size
        self._is_read = not was_stopped

    async def _append(self, file_id: str, data: bytes) -> None:
        while True:
            try:
                return await self._disk.append(file_id, data)
            except OSError as error:
                self.waits_for = f"the server's disk: {error.strerror}"
                log.get().warning("answer of a batch not written yet", batch=self.batch.id, error=error.strerror)
                await asyncio.sleep(DISK_AGAIN_S)

    def _written(
        self,
        number: int,
        custom_id: str | None,
        *,
        response: LineResponse | None = None,
        error: LineError | None = None,
        is_answered: bool = False,
    ) -> bytes:
        ended = LineEnded(
            id=line_id(self.batch.id, number),
            custom_id=custom_id,
            response=response,
            error=error,
            line=msgspec.UNSET if is_answered else number,
        )
        return msgspec.json.encode(ended) + b"\n"


def _fault(line: FileLine, endpoint: str, first: dict[str, int]) -> BadLineError | None:
    """Return why a line cannot be run; None if it can. `first` has the lines of all `custom_id` so far."""
    if line.number > limits.BATCH_LINES:
        return BadLineError(invalid("file", f"file: only its first {limits.BATCH_LINES:,} lines are run"))
    if line.text is None:
        return BadLineError(MillraceError("message_too_big", "the line is longer than a request may be"))
    try:
        custom_id = read_line(line.text, endpoint).custom_id
    except BadLineError as fault:
        if fault.custom_id is not None:
            first.setdefault(fault.custom_id, line.number)
        return fault
    before = first.setdefault(custom_id, line.number)
    if before == line.number:
        return None
    error = invalid("custom_id", f"custom_id: that of line {before} too; give each line one of its own")
    return BadLineError(error, custom_id)


def _custom_id(text: bytes | None, endpoint: str) -> str | None:
    try:
        return read_line(text or b"", endpoint).custom_id
    except BadLineError as fault:
        return fault.custom_id
