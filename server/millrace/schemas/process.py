"""The schema process seen from the server: one thread writes jobs to it and reads its answers.

A client's schema may take any time and any memory to compile or to apply, and the library holds Python's lock while it
does. So both happen in another process, which can be killed. Tenants take turns. Of the jobs of one the smallest and
the oldest go first, in turn: small ones hardly wait for large ones, and large ones not for ever. What waits too long
all the same is not checked.
"""

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from millrace import log
from millrace.children.child import Child
from millrace.json_text import is_json
from millrace.ports import SCHEMA_TURN_S, SchemaReport

MAX_SCHEMA = 256 * 1024  # bytes; a larger one is not checked
LONG = 256 * 1024  # bytes; hashing more takes over a millisecond
CPU_S = 0.1  # of one job, whatever its size
CPU_S_PER_MIB = 0.5  # of schemas and text, more
MAX_WAIT_S = 20.0  # for an answer; a process that used up its CPU time has ended long before
MAX_TURN_S = SCHEMA_TURN_S  # for a job's turn
MAX_KNOWN = 4096  # schemas whose report is remembered
KNOWN_BYTES = 1024  # that one takes, about; a report has a few short paths
PROGRAM = Path(__file__).with_name("worker.py")

_TOO_MUCH = SchemaReport(unchecked=("",))  # too large, or takes too long


class _Job(Struct, eq=False):
    """What is written to the process. Its answers come one by one: those that came in time count."""

    size: int  # bytes
    cpu_s: float
    schemas: list[bytes]
    text: str | None
    explains: bool  # what is wrong with the text, instead of whether it conforms
    done: "Future[list[Any] | None]" = field(default_factory=Future)


class _Queue(Struct):
    """What waits of one tenant, in the order in which it came."""

    jobs: list[_Job] = field(default_factory=list)
    is_the_oldest_next: bool = False

    def take(self) -> _Job:
        """Remove and return the next one."""
        job = self.jobs[0] if self.is_the_oldest_next else min(self.jobs, key=lambda job: job.size)
        self.is_the_oldest_next = not self.is_the_oldest_next
        self.jobs.remove(job)
        return job


class SchemaProcess:
    """Compiles and applies schemas. Nothing runs before the first one comes."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, _Queue] = OrderedDict()  # by tenant; whose turn is next at the front
        self._waiting_bytes = 0
        self._changed = threading.Condition()  # guards the fields above and the three below
        self._closed = False
        self._thread: threading.Thread | None = None
        self._process: Child | None = None
        self._has_failed = False
        self._known: OrderedDict[bytes, SchemaReport] = OrderedDict()  # by SHA-256

    @property
    def bytes_used(self) -> int:
        """Bytes of what waits, and of the reports that are remembered.

        What is compiled is in the other process, which bounds itself.
        """
        return self._waiting_bytes + len(self._known) * KNOWN_BYTES

    async def compile(self, schemas: Sequence[bytes], tenant: str) -> list[SchemaReport]:
        """Compile schemas; return what is wrong with each, and what of it is not checked."""
        digests = await asyncio.to_thread(_digests, schemas) if sum(map(len, schemas)) > LONG else _digests(schemas)
        reports = {digest: self._known.get(digest, _TOO_MUCH) for digest in digests}
        new = {digest: schema for digest, schema in zip(digests, schemas, strict=True) if digest not in self._known}
        asked = {digest: schema for digest, schema in new.items() if len(schema) <= MAX_SCHEMA}
        answers = await self._ask([*asked.values()], None, tenant) if asked else []
        if answers is not None:
            found = {
                digest: SchemaReport(error, tuple(unchecked))
                for digest, (error, unchecked) in zip(asked, answers, strict=False)
            }
            reports |= found
            # One that was late beside others may have waited for them.
            self._remember(reports if len(asked) == 1 else found)
        return [reports[digest] for digest in digests]

    async def matches(self, text: str, schema: bytes | None, tenant: str) -> bool:
        """Whether a text is JSON that matches a schema; with None, whether it is JSON. False if it takes too long.

        Without a process, or if its turn does not come in time, nothing is checked but that it is JSON.
        """
        answer = await self._ask([] if schema is None else [schema], text, tenant)
        if answer is None and not self._closed:
            return await asyncio.to_thread(is_json, text)
        return answer == [True]

    async def faults(self, text: str, schema: bytes | None, tenant: str) -> tuple[str, ...]:
        """Return what is wrong with a text, each with its path; empty if nothing is, or if it takes too long."""
        answer = await self._ask([] if schema is None else [schema], text, tenant, explains=True)
        return tuple(answer[0]) if answer else ()

    def close(self) -> None:
        """End the process. What still waits is not answered in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            process = self._process
        if process is not None:
            process.kill()
        if self._thread is not None:
            self._thread.join()

    def _remember(self, found: dict[bytes, SchemaReport]) -> None:
        for digest, report in found.items():
            self._known[digest] = report
            self._known.move_to_end(digest)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    async def _ask(
        self, schemas: list[bytes], text: str | None, tenant: str, *, explains: bool = False
    ) -> list[Any] | None:
        """Return the answers that came in time, in order; None if its turn did not come in time, or never does."""
        size = sum(map(len, schemas)) + len(text or "")
        job = _Job(size, CPU_S + CPU_S_PER_MIB * size / 2**20, schemas, text, explains)
        with self._changed:
            if self._closed:
                return None
            self._waiting.setdefault(tenant, _Queue()).jobs.append(job)
            self._waiting_bytes += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="millrace-schemas", daemon=True)
                self._thread.start()
            self._changed.notify()
        answers = asyncio.wrap_future(job.done)
        try:
            await asyncio.wait((answers,), timeout=MAX_TURN_S)
            if not answers.done() and self._withdraw(job, tenant):
                log.get().info("schemas not checked", tenant=tenant, waited_s=MAX_TURN_S, bytes=size)
                return None
            return await answers
        finally:  # also if it is cancelled
            self._withdraw(job, tenant)
            answers.cancel()

    def _withdraw(self, job: _Job, tenant: str) -> bool:
        """Let a job wait no longer; False if it had its turn."""
        with self._changed:
            queue = self._waiting.get(tenant)
            if queue is None or job not in queue.jobs:
                return False
            queue.jobs.remove(job)
            self._waiting_bytes -= job.size
            if not queue.jobs:
                del self._waiting[tenant]
            return True

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if not job.done.set_running_or_notify_cancel():
                continue
            try:
                job.done.set_result(self._answers(job))
            except BaseException as error:  # the thread must survive
                self._end()
                self._fail(error)
                job.done.set_result(None)
            del job  # or its text would stay in memory while the thread waits
        self._end()

    def _next(self) -> _Job | None:
        """Return the next job of the tenant whose turn it is; None once all is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                for job in [job for queue in self._waiting.values() for job in queue.jobs]:
                    if job.done.set_running_or_notify_cancel():
                        job.done.set_result(None)
                return None
            tenant, queue = self._waiting.popitem(last=False)
            job = queue.take()
            self._waiting_bytes -= job.size
            if queue.jobs:
                self._waiting[tenant] = queue  # behind the others
            return job

    def _answers(self, job: _Job) -> list[Any]:
        """Return the answers of the process; fewer than asked for if it ended before, by its own timer."""
        answers: list[Any] = []
        expected = 1 if job.text is not None else len(job.schemas)
        text = None if job.text is None else job.text.encode("utf-8", "surrogatepass")
        for _ in range(2):  # a process that others have filled may end at its memory's bound; a new one does not
            is_full = False
            schemas = job.schemas[len(answers) :] if text is None else job.schemas
            try:
                process = self._started()
                process.write([job.cpu_s, schemas, text, job.explains])
                while len(answers) < expected and not is_full:
                    answer, is_full = process.read(MAX_WAIT_S)
                    answers.append(answer)
            except (EOFError, BrokenPipeError, TimeoutError):
                self._end()
            if is_full:
                self._end()
            if len(answers) == expected or not is_full:
                break
        return answers

    def _started(self) -> Child:
        with self._changed:
            if self._closed:
                raise EOFError
            if self._process is None:
                self._process = Child(["-P", str(PROGRAM)])
            return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        code = 0 if process is None else process.end()
        if code > 0:  # Python itself failed; the timer and a lack of memory end it by a signal
            self._fail(RuntimeError(f"{PROGRAM.name} ended with {code}"))

    def _fail(self, error: BaseException) -> None:
        """Say once that schemas cannot be checked here."""
        if not self._has_failed:
            self._has_failed = True
            log.get().error("schemas cannot be checked", exc_info=error)


def _digests(schemas: Sequence[bytes]) -> list[bytes]:
    return [hashlib.sha256(schema).digest() for schema in schemas]
