"""Batches: files of requests that are answered in their own time, and where one stands."""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct, field

from millrace.types.model import Tier


class FilePurpose(StrEnum):
    """What a file is for."""

    BATCH = "batch"  # uploaded: a line for each request
    BATCH_OUTPUT = "batch_output"  # a line for each answer, or for each request that has none


class BatchStatus(StrEnum):
    """Where a batch stands, in the words of OpenAI's API."""

    VALIDATING = "validating"  # nothing of it has run: its file is read, or other batches of its tenant come first
    FAILED = "failed"  # there is nothing in its file to run
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"  # all requests have ended
    COMPLETED = "completed"
    EXPIRED = "expired"  # it was not done within its time
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more."""
        return self in _FINAL


_FINAL = (BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


class KeptFile(Struct, frozen=True, kw_only=True, gc=False):
    """A file that is kept on disk for a tenant. Times are Unix seconds."""

    id: str
    tenant: str
    purpose: FilePurpose
    name: str  # as its owner named it
    size: int  # bytes
    created_at: float
    expires_at: float


class BatchFault(Struct, frozen=True, kw_only=True, gc=False):
    """Why a batch has failed."""

    code: str
    message: str


class ProvidedPart(Struct, frozen=True, kw_only=True, gc=False):
    """The lines of a batch that one model's provider answers, in a batch of its own."""

    tier: Tier  # of the model
    model: str  # its id
    address: str  # where it is served
    likely: Decimal  # dollars that they are likely to cost
    provider_id: str = ""  # of the provider's batch; empty: it is not made yet
    is_done: bool = False  # its answers are on the disk


class Batch(Struct, frozen=True, kw_only=True, gc=False):
    """A batch at one moment. Times are Unix seconds."""

    id: str
    tenant: str
    key_id: str  # that its requests count against
    endpoint: str
    input_file_id: str
    output_file_id: str  # of answers; while it runs the file has no row, and without an answer it never gets one
    error_file_id: str  # of requests without an answer
    metadata: dict[str, str]
    created_at: float
    expires_at: float  # what has not run by then never does
    keep_s: float | None = None  # for which its output is kept, if less than usual
    in_flight: int | None = None  # requests at once, at most
    status: BatchStatus = BatchStatus.VALIDATING
    total: int = 0  # requests
    completed: int = 0
    failed: int = 0
    cost: Decimal = Decimal(0)  # dollars, of all its requests so far
    saved: Decimal = Decimal(0)
    has_output: bool = False  # whether the file of answers is there to be read
    has_errors: bool = False
    reached: dict[BatchStatus, float] = field(default_factory=dict)  # when it reached each status
    fault: BatchFault | None = None
    provided: tuple[ProvidedPart, ...] | None = None  # None: not looked for yet
