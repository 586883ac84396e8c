"""All batches of this server: made, found and cancelled by clients; those of a tenant run one by one."""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec.structs import replace

from millrace import log
from millrace.batches.budget import Budget
from millrace.batches.files import Files, file_not_found, new_file_id
from millrace.batches.provided import files_of
from millrace.batches.running import Runner
from millrace.batches.work import Work
from millrace.errors import EXITS, MillraceError, invalid
from millrace.ports import BatchBills, BatchStore, Clock
from millrace.principal import Principal
from millrace.types import Batch, BatchStatus, FilePurpose
from millrace.wire import limits
from millrace.wire.batches import BatchBody, in_flight_of

WINDOW_S = 24 * 3600.0  # the only one that there is
PRUNE_EVERY_S = 3600.0
AGAIN_S = 5.0  # after the disk has failed


class Batches:
    """The batches of all tenants."""

    def __init__(
        self,
        runner: Runner,
        files: Files,
        store: BatchStore,
        bills: BatchBills,
        budget: Budget,
        others: Callable[[], Awaitable[bool]],  # whether another process may still run batches of this data_dir
        wall: Clock,
    ) -> None:
        self.files = files
        self._runner = runner
        self._store = store
        self._bills = bills
        self._budget = budget
        self._others = others
        self._wall = wall
        self._waiting: dict[str, deque[Work]] = {}  # by tenant; the first one runs
        self._works: dict[str, Work] = {}  # by id
        self._coming: Counter[str] = Counter()  # that are not written yet, by tenant
        self._has_begun = False
        self._tenants: dict[str, asyncio.Task[None]] = {}

    @property
    def bytes_used(self) -> int:
        """Bytes that batches hold in memory, about."""
        return sum(work.bytes_used for work in self._works.values())

    @property
    def unfinished(self) -> list[Batch]:
        """The batches of all tenants that this process knows and that are not done, as they stand."""
        return [work.batch for work in self._works.values()]

    async def create(self, principal: Principal, asked: BatchBody) -> Batch:
        """Take a new batch. Raises `file_not_found`, `queue_full`, or what is wrong with its fields."""
        tenant = principal.tenant
        file = await self._store.file(tenant, asked.input_file_id)
        if file is None:
            raise file_not_found(asked.input_file_id, "input_file_id")
        if file.purpose is not FilePurpose.BATCH:
            raise invalid("input_file_id", f"input_file_id: {file.id} is an output; upload one with purpose batch")
        waiting = sum(work.batch.tenant == tenant for work in self._works.values()) + self._coming[tenant]
        if waiting >= limits.BATCHES_WAITING:
            message = f"{limits.BATCHES_WAITING} of your batches are not done yet; wait for one, or cancel one"
            raise MillraceError("queue_full", message, retry_after_ms=60_000)
        now = self._wall()
        batch = Batch(
            id=f"batch_{secrets.token_hex(16)}",
            tenant=tenant,
            key_id=principal.key_id,
            endpoint=asked.endpoint,
            input_file_id=file.id,
            output_file_id=new_file_id(),
            error_file_id=new_file_id(),
            metadata=asked.metadata or {},
            created_at=now,
            expires_at=now + WINDOW_S,
            in_flight=in_flight_of(asked.metadata or {}),
            keep_s=None if asked.output_expires_after is None else asked.output_expires_after.seconds,
        )
        self._coming[tenant] += 1
        try:
            await self._store.put(batch)
        finally:
            self._coming[tenant] -= 1
            self._coming += Counter()  # without those of none
        self._enqueue(batch)
        return batch

    async def find(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch of a tenant as it stands. Raises `batch_not_found`."""
        work = self._works.get(batch_id)
        if work is not None and work.batch.tenant == tenant:
            return work.batch
        batch = await self._store.batch(tenant, batch_id)
        if batch is None:
            raise MillraceError("batch_not_found", f"no batch {batch_id[:80]!r}; it may be another tenant's")
        return batch

    async def page(self, tenant: str, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """Return the batches of a tenant that come after one, and whether there are more."""
        found = await self._store.batches(tenant, after, limit + 1)
        if found is None:
            raise invalid("after", f"after: {(after or '')[:80]!r} is none of your batches")
        current = [work.batch if (work := self._works.get(batch.id)) else batch for batch in found]
        return current[:limit], len(found) > limit

    def waits_for(self, batch: Batch) -> str:
        """Return what a batch waits for; empty if it runs or is done."""
        if batch.id not in self._works:
            return ""
        queue = self._waiting.get(batch.tenant, ())
        before = next((at for at, work in enumerate(queue) if work.batch.id == batch.id), 0)
        if before:
            return f"{before} of your batches before it"
        return self._works[batch.id].waits_for if self._has_begun else "an earlier process of this server to end"

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Cancel a batch: what runs of it ends, nothing more is started. Idempotent while it is not done."""
        batch = await self.find(tenant, batch_id)
        work = self._works.get(batch.id)
        if work is None and not batch.status.is_final:
            message = "an earlier process of this server still runs this batch, until it ends; try again"
            raise MillraceError("overloaded", message, retry_after_ms=1000)
        if work is None:
            raise invalid("batch_id", f"batch_id: it cannot be cancelled, since it is {batch.status}")
        if work.batch.status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS):
            await work.reach(BatchStatus.CANCELLING)
            waits = work in [*self._waiting.get(tenant, ())][1:]
            if waits and BatchStatus.IN_PROGRESS not in work.batch.reached:
                await work.reach(BatchStatus.CANCELLED)  # nothing of it has run
                self._forget(work)
        return work.batch

    async def delete_file(self, tenant: str, file_id: str) -> None:
        """Delete a file, unless a batch still needs it. Raises `file_not_found`."""
        batches = [work.batch for work in self._works.values()]
        if not self._has_begun:  # an earlier process may run others
            batches += await self._store.unfinished()
        for batch in batches:
            if batch.tenant == tenant and batch.input_file_id == file_id:
                raise invalid("file_id", f"file_id: {batch.id} still reads it; cancel that batch first")
        await self.files.delete(tenant, file_id)

    async def begin(self) -> None:
        """Read what is kept, before any request is taken."""
        batches = await self._store.unfinished()
        is_alone = not await self._others()
        in_use = {file_id for batch in batches for file_id in (batch.output_file_id, batch.error_file_id)}
        in_use |= {file_id for batch in batches for file_id in files_of(batch)}
        await self.files.begin(alone=is_alone, in_use=frozenset(in_use))

    async def run(self) -> None:
        """Run batches until cancelled: those that are not done first. An earlier process ends its own before that."""
        try:
            while await self._others():  # noqa: ASYNC110 - what it looks at cannot tell us
                await asyncio.sleep(AGAIN_S / 10)
            await self._again_and_again(self._resume)
            while True:
                await self._again_and_again(self._prune)
                await asyncio.sleep(PRUNE_EVERY_S)
        finally:
            self._runner.is_closed = True
            tasks = [*self._tenants.values()]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def close(self) -> None:
        """Start nothing more; what runs may end. The next process goes on with what is not done."""
        self._runner.is_closed = True

    async def _prune(self) -> None:
        await self.files.prune({work.batch.input_file_id for work in self._works.values()})

    async def _resume(self) -> None:
        self._budget.begin(await self._bills.batches_cost(self._budget.day))
        resumed = [batch for batch in await self._store.unfinished() if batch.id not in self._works]
        for batch in resumed:
            cost, saved = await self._bills.batch_cost(batch.id)
            self._enqueue(replace(batch, cost=cost, saved=saved))
        self._has_begun = True
        for tenant in self._waiting:
            self._serve(tenant)

    def _enqueue(self, batch: Batch) -> None:
        work = self._works[batch.id] = Work(batch, self.files.disk, self._store, self._wall)
        queue = self._waiting.setdefault(batch.tenant, deque())
        queue.append(work)
        self._waiting[batch.tenant] = deque(sorted(queue, key=lambda each: each.batch.created_at))
        self._serve(batch.tenant)

    def _serve(self, tenant: str) -> None:
        if self._has_begun and tenant not in self._tenants:
            self._tenants[tenant] = asyncio.get_running_loop().create_task(self._run_all(tenant))

    async def _run_all(self, tenant: str) -> None:
        """Run the batches of a tenant one after the other."""
        try:
            while (queue := self._waiting.get(tenant)) and not self._runner.is_closed:
                work = queue[0]
                await self._again_and_again(partial(self._runner.run, work))
                if work.batch.status.is_final:
                    self._forget(work)
        finally:
            del self._tenants[tenant]  # at once, or a batch that comes now would wait for nobody

    def _forget(self, work: Work) -> None:
        queue = self._waiting[work.batch.tenant]
        queue.remove(work)
        if not queue:
            del self._waiting[work.batch.tenant]
        del self._works[work.batch.id]

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something that needs the disk, until it succeeds."""
        while True:
            try:
                return await work()
            except EXITS:
                raise
            except BaseException as error:
                log.get().warning("batches wait for the disk", error=str(error), exc_info=error)
                await asyncio.sleep(AGAIN_S)
