"""Runs one batch to its end: line by line in its turn, asked again where that may help, and handed over at the end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from millrace import log
from millrace.batches.asking import Asker, LineAnswer, NotNowError, refused
from millrace.batches.budget import Budget
from millrace.batches.files import Files
from millrace.batches.pace import LOOK_S, TURN, Pace
from millrace.batches.provided import Provided, said_in
from millrace.batches.work import Line, Work
from millrace.errors import EXITS, MillraceError, internal_error
from millrace.ports import BatchBills, BatchStore, Clock, Said
from millrace.principal import Principal
from millrace.types import BatchFault, BatchStatus, FilePurpose

TRIES, MOST_TRIES = 3, 10  # of a line that fails: while others are answered, and while none is
FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0  # after a failure, and after many without an answer between
BOOK_S = 3600.0  # for what providers have answered to find room, once a batch is to end
LONG_LOOK_S = 0.2  # from one look to the next while a batch waits for what takes its time


class Runner:
    """Runs batches, several side by side."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        *,
        files: Files,
        store: BatchStore,
        bills: BatchBills,
        asker: Asker,
        budget: Budget,
        provided: Provided,
        pace: Pace,
        principal_of: Callable[[str], Principal | None],  # by key; None: it is revoked
        clock: Clock,
        wall: Clock,
    ) -> None:
        self.is_closed = False  # nothing more is started
        self._files = files
        self._store = store
        self._bills = bills
        self._asker = asker
        self._budget = budget
        self._provided = provided
        self._pace = pace
        self._principal_of = principal_of
        self._clock = clock
        self._wall = wall

    async def run(self, work: Work) -> None:
        """Run a batch to its end, or until this process ends."""
        await work.examine()
        if work.batch.total == 0:
            fault = BatchFault(code="empty_file", message="the file has no line with a request")
            work.batch = replace(work.batch, fault=fault)
            await work.reach(BatchStatus.FAILED)
            return
        if work.batch.status is BatchStatus.VALIDATING:
            await work.reach(BatchStatus.IN_PROGRESS)
        running: set[asyncio.Task[None]] = set()
        try:
            if not self.is_closed:
                await self._provided.send(work, is_ending=self._is_ending(work))
            await self._run_lines(work, running)
        finally:
            self._provided.let_go(work, work.held)
        if not self.is_closed:
            await self._finish(work)

    async def _run_lines(self, work: Work, running: set[asyncio.Task[None]]) -> None:
        following = asyncio.get_running_loop().create_task(self._follow(work))
        try:
            while work.fault is None and await self._start_next(work, running):
                pass
            if running:
                await asyncio.wait(running)
            if work.fault is not None:
                raise work.fault
        finally:
            tasks = {following, *running}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _follow(self, work: Work) -> None:
        """Have the lines back that providers answer."""
        try:
            await self._provided.follow(work, lambda: self._is_ending(work))
        except EXITS:
            raise
        except BaseException as error:  # the batch begins again from what is on disk
            work.fault = error

    async def _start_next(self, work: Work, running: set[asyncio.Task[None]]) -> bool:
        """Start the next line, once its turn has come. False if there is none, or none is to be started any more."""
        most = work.batch.in_flight
        if most is not None and len(running) >= most:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            return True
        line = await self._next(work)
        if line is None:
            if running:  # one of those may be asked again
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if not running and work.is_elsewhere and not self.is_closed:
                work.waits_for = work.provider_waits_for
                await self._pace.wait(LONG_LOOK_S)
                return True
            return bool(running) or self._has_more(work)
        if not await self._may_start(work, line):
            work.again.appendleft(line)
            return not self.is_closed
        self._pace.start()
        task = asyncio.get_running_loop().create_task(self._answer(work, line))
        running.add(task)
        task.add_done_callback(running.discard)
        return True

    async def _next(self, work: Work) -> Line | None:
        """Return the next line that is to be run; None if there is none now."""
        while self._has_more(work) or not self._is_ending(work):
            line = await work.next()
            if line is None or not self._is_over(work, line):
                return line
        return None

    def _has_more(self, work: Work) -> bool:
        """Whether there are lines that are to be run now."""
        if not self._is_ending(work):
            return work.has_more
        return work.has_come and self._may_book(work)

    def _may_book(self, work: Work) -> bool:
        """Whether what providers have answered is still booked, of a batch that ends."""
        if work.books_until is None:
            work.books_until = self._clock() + BOOK_S
        return self._principal_of(work.batch.key_id) is not None and self._clock() < work.books_until

    async def _may_start(self, work: Work, line: Line) -> bool:
        """Wait for the turn of a line; False if it is not to be run any more, or this process ends."""
        while work.fault is None and not self.is_closed and not self._is_over(work, line):
            rests = work.waits_for if self._clock() < work.rests_until else ""
            spent = "" if work.came(line) else self._budget.why_not()
            why = rests or spent or self._pace.why_not()
            if not why:
                work.waits_for = ""
                return True
            work.waits_for = "" if why is TURN else why
            await self._pace.wait(LOOK_S if why is TURN else LONG_LOOK_S)
        return False

    def _is_over(self, work: Work, line: Line) -> bool:
        """Whether a line is not run any more, since its batch ends: of such a one, what providers have answered is."""
        return self._is_ending(work) and not (work.came(line) is not None and self._may_book(work))

    def _is_ending(self, work: Work) -> bool:
        return (
            work.batch.status is BatchStatus.CANCELLING
            or self._wall() >= work.batch.expires_at
            or self._principal_of(work.batch.key_id) is None
        )

    async def _answer(self, work: Work, line: Line) -> None:
        """Run a line, and write what becomes of it. Its place is free once that is on disk."""
        try:
            answer = await self._asked(work, line)
            if answer is not None:
                with suppress(MillraceError):
                    await self._store.written()  # the ledger knows of it first
                await work.ended(line, answer)
                self._use_up(work, line)
        except EXITS:
            raise
        except BaseException as error:  # the batch begins again from what is on disk
            work.fault = error
        finally:
            self._pace.end()

    async def _asked(self, work: Work, line: Line) -> LineAnswer | None:
        """Return what becomes of a line; None if it is asked again, or its batch ends."""
        principal = self._principal_of(work.batch.key_id)
        if principal is None:
            return None
        before: Said | None = None
        try:
            before = await self._said(work, line)
            answer = await self._asker.answer(work.batch, principal, line.text, before)
        except NotNowError as later:
            self._later(work, line, later.why, later.after_s)
            return None
        except EXITS:
            raise
        except BaseException as error:
            log.get().error("line of a batch crashed", batch=work.batch.id, line=line.number, exc_info=error)
            answer = refused(internal_error())
        finally:
            if before is not None and before.is_taken:  # and paid for
                self._use_up(work, line)
        return answer if self._stands(work, line, answer) else None

    async def _said(self, work: Work, line: Line) -> Said | None:
        """Return what a provider has answered to a line in its own batch; None if none has, or if it is of no use."""
        came = work.came(line)
        if came is None:
            return None
        body = said_in(await self._files.disk.read(came.file_id, came.start, came.size))
        if body is None:
            self._use_up(work, line)
        return None if body is None else Said(came.model, body)

    def _use_up(self, work: Work, line: Line) -> None:
        """Use what a provider has answered to a line no more, and reserve nothing for it."""
        if (came := work.came(line)) is not None:
            work.use_up(line)
            self._provided.let_go(work, came.held)

    def _stands(self, work: Work, line: Line, answer: LineAnswer) -> bool:
        """Whether an answer is the last word on its line. Else it is asked again, unless its batch ends."""
        if answer.error is None:
            work.failures = 0
            return True
        if answer.error.code == "cancelled":
            return not self.is_closed and self._principal_of(work.batch.key_id) is not None
        if not answer.may_be_repeated:
            return True
        if not line.tries:
            line.answers_before = work.answers
        line.tries += 1
        if line.tries >= (TRIES if work.answers > line.answers_before else MOST_TRIES):
            return True
        self._later(work, line, answer.error.message, None)
        return False

    def _later(self, work: Work, line: Line, why: str, after_s: float | None) -> None:
        """Have a line asked again. Its batch rests meanwhile, the longer the more has failed since the last answer."""
        if not work.failures or self._clock() >= work.rests_until:  # those that ran side by side fail together
            work.failures += 1
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(work.failures - 1, 10))
        work.rests_until = max(work.rests_until, self._clock() + max(rest_s, after_s or 0.0))
        work.waits_for = why
        work.again.append(line)

    async def _finish(self, work: Work) -> None:
        """Hand over the output of a batch, and keep how it ended: files and status in one transaction."""
        batch = work.batch
        if batch.status is BatchStatus.CANCELLING:
            end = BatchStatus.CANCELLED
        elif self._principal_of(batch.key_id) is None:
            end = BatchStatus.CANCELLED
            work.batch = replace(batch, fault=BatchFault(code="cancelled", message="the key was revoked"))
        elif batch.completed + batch.failed < batch.total:
            if self._wall() < batch.expires_at:
                raise RuntimeError("a line was left out")  # all that is not on the disk begins again
            end = BatchStatus.EXPIRED
            await work.expire()
        else:
            end = BatchStatus.COMPLETED
        if end is not BatchStatus.CANCELLED:
            await work.reach(BatchStatus.FINALIZING)
        await self._store.written()
        cost, saved = await self._bills.batch_cost(batch.id)
        made = []
        for file_id, kind in ((batch.output_file_id, "output"), (batch.error_file_id, "error")):
            if size := await self._files.disk.sync(file_id):
                name = f"{batch.id}_{kind}.jsonl"
                purpose = FilePurpose.BATCH_OUTPUT
                made.append(self._files.made(file_id, batch.tenant, purpose, name, size, batch.keep_s))
        ids = {file.id for file in made}
        ended = replace(
            work.batch,
            cost=cost,
            saved=saved,
            status=end,
            reached=work.batch.reached | {end: self._wall()},
            has_output=batch.output_file_id in ids,
            has_errors=batch.error_file_id in ids,
        )
        await self._store.put(ended, made)
        for file in made:
            self._files.shares.count(file.tenant, file.size)
        work.batch = ended
        with suppress(OSError):  # what is left goes at the next start
            await self._provided.forget(ended)
        log.get().info(
            "batch ended",
            id=batch.id,
            tenant=batch.tenant,
            status=end.value,
            completed=ended.completed,
            failed=ended.failed,
            cost_usd=float(cost),
        )
