"""MiniLM and the verifier in a process of their own: they take nothing from the process that carries the tokens.

The process starts when something is first compared, and maps the weights, which only it uses. One thread here writes to
it and reads its answers. What several lookups ask for meanwhile is answered together, which takes a fraction of the
time: as many as are likely to be answered before the first of them is too late. In a rush some are answered in time,
where all together would be answered too late.
"""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from msgspec import Struct, field

import millrace
from millrace import log
from millrace.caches.embedders.weights import NAME, WeightsError
from millrace.children.child import Child
from millrace.ports import Likeness

PROGRAM = "millrace.caches.embedders.program"
START_S = 20.0  # to load the weights, on a busy machine
ANSWER_S = 20.0  # for an answer; 32 long texts take about 3
RETRY_S = 10.0  # after a process that failed, until the next one
MOST_TEXTS = 32  # that are answered together
LEARNED = 0.2  # how much the latest answer counts in what an answer is likely to take
DOUBTED = 0.9  # what becomes of that when something is not begun because of it, or nothing might ever be begun again


class ComparingError(RuntimeError):
    """The process cannot compare now."""


class _Job(Struct):
    texts: list[str]  # the question, then the others
    by: float  # monotonic; it is not begun then or later
    done: "Future[list[Likeness]]" = field(default_factory=Future)


class MiniLMProcess:
    """Compares questions by the cosine of their vectors and, of those that are near, by reading both together."""

    name = NAME

    def __init__(self) -> None:
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()  # guards the fields above and the three below
        self._closed = False
        self._thread: threading.Thread | None = None
        self._child: Child | None = None
        self._is_ready = False  # it has loaded the weights
        self._failed_at: float | None = None  # monotonic
        self._text_s = 0.0  # that an answer takes, per text, lately; only the thread changes it

    @property
    def is_starting(self) -> bool:
        """Whether the first answer takes a while longer, because the weights are still to be loaded."""
        return not self._is_ready and self._failed_at is None

    def compare(self, question: str, others: Sequence[str], by: float = math.inf) -> "Future[list[Likeness]]":
        """Return how alike a question and each of the others are. Never blocks.

        Fails with `ComparingError`, or with `TimeoutError` if its turn comes at `by` (monotonic) or later.
        """
        job = _Job([question, *others], by)
        with self._changed:
            if self._closed:
                job.done.set_exception(ComparingError("closed"))
                return job.done
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="millrace-comparing", daemon=True)
                self._thread.start()
            self._changed.notify()
        return job.done

    def close(self) -> None:
        """End the process. Blocks for a moment; what still waits fails."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            if self._child is not None:
                self._child.kill()
        if self._thread is not None:
            self._thread.join(START_S)

    def _run(self) -> None:
        while jobs := self._next():
            taken = [job for job in jobs if self._is_begun(job)]
            begun_at = time.monotonic()
            try:
                answers = self._answers([job.texts for job in taken]) if taken else []
            except BaseException as error:  # the thread must survive
                self._fail(error)
                for job in taken:
                    job.done.set_exception(ComparingError(f"{PROGRAM} failed"))
            else:
                for job, answer in zip(taken, answers, strict=True):
                    job.done.set_result(answer)
                if taken and math.isfinite(taken[0].by):
                    took_s = (time.monotonic() - begun_at) / sum(len(job.texts) for job in taken)
                    self._text_s += LEARNED * (took_s - self._text_s)
            del jobs, taken  # or their texts would stay in memory while the thread waits
        self._end()
        for job in self._waiting:
            if job.done.set_running_or_notify_cancel():
                job.done.set_exception(ComparingError("closed"))

    def _next(self) -> list[_Job]:
        """Return what waits, up to a bound; nothing once all is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            jobs: list[_Job] = []
            size, by = 0, math.inf
            while self._waiting and not self._closed and (not jobs or self._fits(self._waiting[0], size, by)):
                jobs.append(self._waiting.popleft())
                if not jobs[-1].done.cancelled() and self._is_in_time(jobs[-1]):
                    size, by = size + len(jobs[-1].texts), min(by, jobs[-1].by)
            return jobs

    def _fits(self, job: _Job, size: int, by: float) -> bool:
        """Whether a job may be answered together with others of so many texts, the first of which is due then."""
        size += len(job.texts)
        return size <= MOST_TEXTS and time.monotonic() + size * self._text_s < by

    def _is_in_time(self, job: _Job) -> bool:
        return time.monotonic() + len(job.texts) * self._text_s < job.by

    def _is_begun(self, job: _Job) -> bool:
        """Whether a job is begun: nobody has cancelled it, and it is not likely to be too late, which is told."""
        if not job.done.set_running_or_notify_cancel():
            return False
        if self._is_in_time(job):
            return True
        if time.monotonic() < job.by:
            self._text_s *= DOUBTED
        job.done.set_exception(TimeoutError())
        return False

    def _answers(self, groups: list[list[str]]) -> list[list[Likeness]]:
        if self._failed_at is not None and time.monotonic() - self._failed_at < RETRY_S:
            raise ComparingError("it failed a moment ago")
        child = self._started()
        child.write(groups)
        answers = child.read(ANSWER_S)
        self._failed_at = None
        return [[Likeness(*each) for each in answer] for answer in answers]

    def _started(self) -> Child:
        with self._changed:
            if self._closed:
                raise ComparingError("closed")
            if self._child is None:
                self._child = Child(["-P", "-m", PROGRAM], {"PYTHONPATH": _path()})
            child = self._child
        if not self._is_ready:
            trouble = child.read(START_S)
            if trouble is not None:
                raise WeightsError(trouble)
            self._is_ready = True
        return child

    def _fail(self, error: BaseException) -> None:
        """Say once, for a while, that nothing can be compared."""
        self._end()
        if not self._closed and not isinstance(error, ComparingError):
            self._failed_at = time.monotonic()
            why = str(error) if isinstance(error, WeightsError) else None  # of the others it may quote a question
            log.get().error("questions cannot be compared", why=why, retry_s=RETRY_S, exc_info=error)

    def _end(self) -> None:
        with self._changed:
            child, self._child = self._child, None
        self._is_ready = False
        if child is not None:
            child.end()


def _path() -> str:
    """Return where the process finds Millrace, however it was installed."""
    paths = (str(Path(millrace.__file__).parents[1]), os.environ.get("PYTHONPATH"))
    return os.pathsep.join(path for path in paths if path)
