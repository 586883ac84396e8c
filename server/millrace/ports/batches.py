"""Files of batches on disk, and what is known of files and batches."""

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import NamedTuple, Protocol

from msgspec import Struct

from millrace.types import Batch, Call, FilePurpose, KeptFile


class FileLine(NamedTuple):
    """One line of a file."""

    number: int  # from 1
    start: int  # byte
    end: int  # byte after its line feed
    text: bytes | None  # without its end; None: it is longer than the longest that is read
    is_whole: bool  # it has its line feed


class BatchDisk(Protocol):
    """Files by their id. All is done in order on a thread of its own. Each method may raise `OSError`."""

    async def append(self, file_id: str, data: bytes) -> None:
        """Append to a file, all or nothing; without the file it is made."""
        ...

    async def lines(self, file_id: str, look: Callable[[FileLine], bool], start: int = 0, number: int = 1) -> None:
        """Call `look` on the thread with each line from a byte on, until it returns False. No file has no lines."""
        ...

    async def read(self, file_id: str, start: int, most: int) -> bytes:
        """Return so many bytes from a place on, at most. Raises `FileNotFoundError`."""
        ...

    async def cut(self, file_id: str, size: int) -> None:
        """Cut a file to so many bytes, if it is there."""
        ...

    async def rename(self, file_id: str, new_id: str) -> None:
        """Give a file another id, once its bytes are safe."""
        ...

    async def sync(self, file_id: str) -> int:
        """Have the bytes of a file be safe; return how many there are. 0 if there is no such file."""
        ...

    async def remove(self, file_ids: Collection[str]) -> None:
        """Remove files, if they are there."""
        ...

    async def remove_all_but(self, file_ids: Collection[str]) -> None:
        """Remove all other files."""
        ...


class ProviderBatch(Struct, frozen=True, kw_only=True):
    """A batch that a provider runs, as it stands."""

    id: str
    has_ended: bool
    output_file_id: str | None  # of answers, once there are some


class ProviderBatches(Protocol):
    """The batches of a model's provider. Each method that waits may raise `UpstreamError`.

    Its `rule.retry` is False where the provider refuses what it is asked for.
    """

    model: str  # its id
    address: str  # base URL

    def line(self, call: Call, custom_id: str) -> bytes:
        """Return the line that stands for a call in a file of the provider, with its end."""
        ...

    async def start(self, disk: BatchDisk, file_id: str, name: str) -> str:
        """Have a file run; return the id of the provider's batch. The one of that name, if there is one already."""
        ...

    async def find(self, name: str) -> str | None:
        """Return the id of the batch of a name that was begun, and has not failed; None if there is none."""
        ...

    async def look(self, batch_id: str) -> ProviderBatch:
        """Return how a batch stands."""
        ...

    async def bring(self, output_file_id: str, disk: BatchDisk, file_id: str) -> None:
        """Bring the answers of a batch into a file."""
        ...

    async def cancel(self, batch_id: str) -> None:
        """Have the provider run no more of a batch."""
        ...


class BatchStore(Protocol):
    """The rows of files and batches. Each method but `note` may raise `overloaded` if the disk does not answer."""

    async def add_file(self, file: KeptFile) -> None:
        """Keep the row of a file."""
        ...

    async def file(self, tenant: str, file_id: str) -> KeptFile | None:
        """Return a file of a tenant that has not expired."""
        ...

    async def files(
        self, tenant: str, after: str | None, limit: int, *, oldest_first: bool, purpose: FilePurpose | None
    ) -> list[KeptFile] | None:
        """Return the files of a tenant that come after one; None if there is no such one."""
        ...

    async def delete_file(self, tenant: str, file_id: str) -> KeptFile | None:
        """Delete the row of a file and return it; None if there is none."""
        ...

    async def all_files(self) -> list[KeptFile]:
        """Return the files of all tenants, expired ones too."""
        ...

    async def forget(self, now: float, batches_before: float, in_use: Collection[str]) -> list[KeptFile]:
        """Delete the rows of files that have expired, and of batches that ended and were created before a time.

        Return those files. Files that are `in_use` stay.
        """
        ...

    async def put(self, batch: Batch, files: Collection[KeptFile] = ()) -> None:
        """Keep how a batch stands, and files that it has made, in one transaction."""
        ...

    def note(self, batch: Batch) -> None:
        """Keep how far a batch is. Never waits; it may be lost."""
        ...

    async def batch(self, tenant: str, batch_id: str) -> Batch | None:
        """Return a batch of a tenant."""
        ...

    async def batches(self, tenant: str, after: str | None, limit: int) -> list[Batch] | None:
        """Return the batches of a tenant that come after one, the newest first; None if there is no such one."""
        ...

    async def unfinished(self) -> list[Batch]:
        """Return the batches of all tenants that are not final, the oldest first."""
        ...

    async def written(self) -> None:
        """Return once all that was queued for the disk so far is there: what the ledger was told, too."""
        ...


class BatchBills(Protocol):
    """What batches have cost, as the ledger knows it."""

    async def batch_cost(self, batch_id: str) -> tuple[Decimal, Decimal]:
        """Return what a batch has cost and saved, in dollars; what is open counts at its highest."""
        ...

    async def batches_cost(self, since: float) -> Decimal:
        """Return the dollars of all requests of batches that were opened since then (Unix seconds)."""
        ...
