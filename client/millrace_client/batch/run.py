"""One run of `millrace batch run`: find the batch or make it, wait for its end, bring its answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from millrace.errors import MillraceError
from millrace.wire.batches import IN_FLIGHT, BatchObject
from millrace_client.batch import answers
from millrace_client.batch.api import BatchApi, off_the_loop
from millrace_client.batch.requests import Requests
from millrace_client.commands import FAILED, dollars

DIGEST = "millrace.input_sha256"  # in the metadata of a batch
GIVEN_UP = ("failed", "expired", "cancelled")
DONE = ("completed", *GIVEN_UP)
FIRST_LOOK_S, LAST_LOOK_S = 0.1, 2.0  # from one look at a batch to the next, which grows
AWAY_S = 120.0  # for which a server may be away, as between two releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run is to do."""

    requests: Requests
    output: Path
    errors: Path
    in_flight: int | None
    again: bool


async def run(api: BatchApi, wanted: Wanted, console: Console) -> int:
    """Run a batch to its end; return the exit code. Raises `MillraceError`, `aiohttp.ClientError`."""
    began_at = time.monotonic()
    batch = None if wanted.again else await _found(api, wanted)
    if batch is None:
        batch = await _started(api, wanted, console)
        console.print(Text(f"{batch.id} runs on the server. If this stops, the same command goes on with it.", "dim"))
    else:
        console.print(Text(f"{batch.id} has these requests: {batch.status}. --again runs them anew.", "dim"))
    if batch.status not in DONE:
        batch = await _followed(api, batch, console)
    await _brought(api, batch, wanted, console)
    _report(batch, wanted, time.monotonic() - began_at, console)
    return 0 if batch.status == "completed" and not batch.request_counts.failed else FAILED


async def _found(api: BatchApi, wanted: Wanted) -> BatchObject | None:
    """Return the batch of the same requests, if it runs or is completed."""
    async for batch in api.batches():
        is_same = (batch.metadata or {}).get(DIGEST) == wanted.requests.digest
        if is_same and batch.endpoint == wanted.requests.endpoint and batch.status not in (*GIVEN_UP, "cancelling"):
            return batch
    return None


async def _started(api: BatchApi, wanted: Wanted, console: Console) -> BatchObject:
    requests = wanted.requests
    metadata = {DIGEST: requests.digest, "file": requests.path.name}
    metadata |= {} if wanted.in_flight is None else {IN_FLIGHT: str(wanted.in_flight)}
    with _bar(console, DownloadColumn()) as bar:
        task = bar.add_task("upload", total=requests.size)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in off_the_loop(requests.pieces()):
                yield piece
                bar.update(task, advance=len(piece))

        file = await api.upload(requests.path.name, requests.size, pieces())
    return await api.create(file.id, requests.endpoint, metadata)


async def _followed(api: BatchApi, batch: BatchObject, console: Console) -> BatchObject:
    """Return a batch once it is done; show how far it is."""
    look_s, seen_at = FIRST_LOOK_S, time.monotonic()
    with _bar(console, MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(batch.status, total=None)
        while batch.status not in DONE:
            _show(bar, task, batch)
            await asyncio.sleep(look_s)
            look_s = min(LAST_LOOK_S, look_s * 1.5)
            try:
                batch = await api.batch(batch.id)
                seen_at = time.monotonic()
            except (aiohttp.ClientError, TimeoutError, OSError, MillraceError) as error:
                will_pass = not isinstance(error, MillraceError) or error.rule.retry
                if not will_pass or time.monotonic() - seen_at > AWAY_S:
                    raise
                bar.update(task, description="the server is away")
        _show(bar, task, batch)
    return batch


def _show(bar: Progress, task: TaskID, batch: BatchObject) -> None:
    counts = batch.request_counts
    parts = [batch.status.replace("_", " ")]
    parts += [f"{counts.failed:,} failed"] if counts.failed else []
    parts += [dollars(batch.millrace.cost_usd)] if batch.millrace.cost_usd else []
    parts += [f"waits for {batch.millrace.waits_for}"] if batch.millrace.waits_for else []
    bar.update(
        task,
        completed=counts.completed + counts.failed,
        total=counts.total or None,
        description=escape(" · ".join(parts)),
    )


async def _brought(api: BatchApi, batch: BatchObject, wanted: Wanted, console: Console) -> None:
    """Write the answers, and the errors if there are any."""
    custom_ids = wanted.requests.custom_ids
    for file_id, path in ((batch.output_file_id, wanted.output), (batch.error_file_id, wanted.errors)):
        if file_id is None:
            if path is wanted.output:
                answers.write_nothing(path)
            else:
                path.unlink(missing_ok=True)  # of an earlier run
            continue
        file = await api.file(file_id)
        with _bar(console, DownloadColumn()) as bar:
            advance = partial(bar.advance, bar.add_task(path.name, total=file.bytes))
            await answers.saved(api.content(file_id), path, custom_ids, advance)


def _report(batch: BatchObject, wanted: Wanted, seconds: float, console: Console) -> None:
    counts, money = batch.request_counts, batch.millrace
    for error in batch.errors.data if batch.errors is not None else ():
        console.print(Text.assemble((error.code, "red"), f": {error.message}"))
    parts = [batch.status.value] if batch.status != "completed" else []
    parts.append(f"{counts.completed:,} of {counts.total:,} answered in {wanted.output}")
    parts += [f"{counts.failed:,} failed, see {wanted.errors}"] if counts.failed else []
    parts += [dollars(money.cost_usd), f"saved {dollars(money.saved_usd)}", f"{seconds:.0f} s"]
    console.print(Text(" · ".join(parts)))


@contextmanager
def _bar(console: Console, *columns: object) -> Iterator[Progress]:
    """Show progress on a terminal."""
    shown = (BarColumn(), *columns, TextColumn("{task.description}"))
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as bar:  # type: ignore[arg-type]
        yield bar
