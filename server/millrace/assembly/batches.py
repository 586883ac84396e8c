"""Batches of one process: where their files are, who runs them, and when."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from millrace.access.keys import Keyring
from millrace.assembly.background import running
from millrace.assembly.funnel import LiveFunnels
from millrace.batches.asking import Asker
from millrace.batches.batches import Batches
from millrace.batches.budget import Budget
from millrace.batches.files import Files
from millrace.batches.pace import Pace
from millrace.batches.provided import Provided
from millrace.batches.running import Runner
from millrace.memory import MemoryBudget
from millrace.ports import Clock
from millrace.runs.embeddings import Embeddings
from millrace.runs.intake import Intake
from millrace.runs.runs import Runs
from millrace.settings import IN_MEMORY, Settings
from millrace.stores.batch_disk import FolderBatchDisk
from millrace.stores.batches import SqliteBatches
from millrace.stores.database import SqliteDatabase
from millrace.stores.ledger import SqliteLedger

FOLDER = "files"  # in data_dir
BACKLOG_S = 1.0  # for which the first write has waited; with more, batches wait


@asynccontextmanager
async def running_batches(  # noqa: PLR0913, PLR0917 - its parts
    settings: Settings,
    database: SqliteDatabase,
    store: SqliteBatches,
    ledger: SqliteLedger,
    others: Callable[[], Awaitable[bool]],  # whether another process may still run batches
    keyring: Keyring,
    live: LiveFunnels,
    intake: Intake,
    runs: Runs,
    embeddings: Embeddings,
    memory: MemoryBudget,
    clock: Clock,
    wall: Clock,
) -> AsyncIterator[Batches]:
    """Run batches meanwhile. A data_dir that keeps nothing has its files in a folder that is removed at the end."""
    chosen, server, funnels = settings.batch, settings.server, live.funnels
    async with AsyncExitStack() as parts:
        folder = Path(server.data_dir, FOLDER)
        if server.data_dir == IN_MEMORY:
            folder = Path(
                parts.enter_context(tempfile.TemporaryDirectory(prefix="millrace-", ignore_cleanup_errors=True))
            )
        disk = FolderBatchDisk(folder, longest=server.max_message_bytes)
        parts.push_async_callback(asyncio.to_thread, disk.close)
        files = Files(
            disk, store, wall, keep_days=chosen.keep_days, most_bytes=chosen.disk_bytes, are_many=memory.are_many
        )
        budget = Budget(chosen.dollars_per_day, wall)
        pace = Pace(
            lambda: intake.taken,
            lambda: funnels.running,
            lambda: database.is_full or database.oldest_s > BACKLOG_S,
            clock,
            in_flight=chosen.in_flight,
            max_running=server.max_running,
        )

        asker = Asker(
            intake=intake,
            kept=runs.kept,
            embeddings=embeddings,
            funnels=funnels,
            memory=memory,
            budget=budget,
            principal_of=keyring.principal,
            on_taken=pace.count_own,
        )
        runner = Runner(
            files=files,
            store=store,
            bills=ledger,
            asker=asker,
            budget=budget,
            provided=Provided(live.provider_batches, disk, asker, budget, clock),
            pace=pace,
            principal_of=keyring.principal,
            clock=clock,
            wall=wall,
        )
        batches = Batches(runner, files, store, ledger, budget, others, wall)
        await batches.begin()
        memory.add("batches", lambda: batches.bytes_used)
        await parts.enter_async_context(running(batches.run()))
        yield batches
