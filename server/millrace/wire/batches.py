"""Files and batches as OpenAI's API has them, and the lines of their files."""

import codecs
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from millrace.errors import MillraceError, invalid
from millrace.types import Batch, BatchStatus, KeptFile
from millrace.wire import limits
from millrace.wire.options import read_metadata
from millrace.wire.reading import MAX_SHOWN, convert, json_name

Endpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]
ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
CHAT, RESPONSES, EMBEDDINGS = ENDPOINTS
IN_FLIGHT = "millrace.in_flight"  # in the metadata of a batch
MAX_DIGITS = 6
MAX_CUSTOM_ID = 512  # characters
LONGEST_EXPIRY_S, SHORTEST_EXPIRY_S = 30 * 86_400, 3_600
MAX_FILES, MAX_BATCHES = 10_000, 100  # of a page


class FileObject(Struct, kw_only=True):
    """A file that is kept. Times are Unix seconds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"


class FileObjects(Struct, kw_only=True):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Struct, kw_only=True):
    """That a file is deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class FileForm(Struct, kw_only=True):
    """A form, as multipart/form-data: the file, and what it is for."""

    file: Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/jsonl"})]
    purpose: Literal["batch"]
    expires_after: "ExpiresAfter | None" = None


class ExpiresAfter(Struct, kw_only=True):
    """After how many seconds a file is deleted. As `expires_after[seconds]` in a form."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=SHORTEST_EXPIRY_S, le=LONGEST_EXPIRY_S)]


class BatchBody(Struct, kw_only=True):
    """Asks for a batch: which file to run, and by which endpoint."""

    input_file_id: str
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class RequestCounts(Struct, kw_only=True):
    """Requests of a batch: all, those with an answer, those that have failed."""

    total: int
    completed: int
    failed: int


class BatchError(Struct, kw_only=True):
    """Why a batch has failed."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchErrors(Struct, kw_only=True):
    """Why a batch has failed."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class OfMillrace(Struct, kw_only=True):
    """What a batch has cost and saved so far, in dollars, and what it waits for, if it does."""

    cost_usd: float
    saved_usd: float
    waits_for: str | None


class BatchObject(Struct, kw_only=True):
    """A batch as it stands. Times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None
    millrace: OfMillrace


class BatchObjects(Struct, kw_only=True):
    """A page of batches, the newest first."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class LineResponse(Struct, kw_only=True):
    """What the endpoint has answered."""

    status_code: int
    request_id: str
    body: Raw


class LineError(Struct, kw_only=True):
    """Why a line was not run. `param` is the path of the faulty field."""

    code: str
    message: str
    param: str | None = None


class LineEnded(Struct, kw_only=True):
    """A line of an output file, or of an error file, where `line` is its number in the input."""

    id: str
    custom_id: str | None
    response: LineResponse | None
    error: LineError | None
    line: int | UnsetType = UNSET


class _Named(Struct):
    id: str


class BatchLine(Struct, frozen=True):
    """A line of an input file that can be run: its request, not yet read."""

    custom_id: str
    body: bytes


class BadLineError(Exception):
    """A line that cannot be run, and its `custom_id` if it has one."""

    def __init__(self, error: MillraceError, custom_id: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.custom_id = custom_id


def read_batch(fields: dict[str, Any]) -> BatchBody:
    """Read the body of a new batch. Raises `invalid_request` with the path of the field."""
    body = convert(fields, BatchBody)
    read_metadata(body.metadata)
    return body


def in_flight_of(metadata: dict[str, str]) -> int | None:
    """Return how many requests of a batch may run at once, if its metadata says so. Raises `invalid_request`."""
    if (given := metadata.get(IN_FLIGHT)) is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS and int(given) > 0):
        raise invalid(f"metadata.{IN_FLIGHT}", f"metadata.{IN_FLIGHT}: expected a number such as 4")
    return int(given)


def read_line(text: bytes, endpoint: str) -> BatchLine:
    """Read a line of a batch that was made for an endpoint. Its body is read when it is run. Raises `BadLineError`."""
    try:
        fields = msgspec.json.decode(text.removeprefix(codecs.BOM_UTF8), type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadLineError(_not_json(text, error)) from None
    custom_id = _text_of(fields, "custom_id")
    if custom_id is None:
        raise BadLineError(invalid("custom_id", 'custom_id: missing; give each line a text of its own: "row-1"'))
    if not 0 < len(custom_id) <= MAX_CUSTOM_ID:
        message = f"custom_id: expected 1 to {MAX_CUSTOM_ID} characters, got {len(custom_id)}"
        raise BadLineError(invalid("custom_id", message))
    for name, right in (("method", "POST"), ("url", endpoint)):
        given = _text_of(fields, name)
        if given != right:
            shown = "missing" if given is None else f"{given[:MAX_SHOWN]!r} is not that of the batch"
            raise BadLineError(invalid(name, f'{name}: {shown}; write "{right}"'), custom_id)
    body = bytes(fields.get("body", b""))
    if not body.startswith(b"{"):
        raise BadLineError(invalid("body", "body: expected the request, a JSON object"), custom_id)
    return BatchLine(custom_id, body)


def line_of(written: bytes) -> int | None:
    """Return the number of the input line that a line of an output or an error file is of; None if it is damaged."""
    try:
        number = msgspec.json.decode(written, type=_Named).id.rpartition("_")[2]
    except (msgspec.DecodeError, UnicodeError):
        return None
    return int(number) if number.isascii() and number.isdigit() else None


def line_id(batch_id: str, number: int) -> str:
    """Return the id of what became of a line."""
    return f"batch_req_{batch_id.removeprefix('batch_')}_{number}"


def file_object(file: KeptFile) -> FileObject:
    """Return a file as clients see it."""
    return FileObject(
        id=file.id,
        bytes=file.size,
        created_at=int(file.created_at),
        expires_at=int(file.expires_at),
        filename=file.name,
        purpose=file.purpose.value,
    )


def batch_object(batch: Batch, waits_for: str = "") -> BatchObject:
    """Return a batch as clients see it."""

    def at(status: BatchStatus) -> int | None:
        found = batch.reached.get(status)
        return None if found is None else int(found)

    fault = batch.fault
    return BatchObject(
        id=batch.id,
        endpoint=batch.endpoint,
        errors=None if fault is None else BatchErrors(data=[BatchError(code=fault.code, message=fault.message)]),
        input_file_id=batch.input_file_id,
        status=batch.status,
        output_file_id=batch.output_file_id if batch.has_output else None,
        error_file_id=batch.error_file_id if batch.has_errors else None,
        created_at=int(batch.created_at),
        in_progress_at=at(BatchStatus.IN_PROGRESS),
        expires_at=int(batch.expires_at),
        finalizing_at=at(BatchStatus.FINALIZING),
        completed_at=at(BatchStatus.COMPLETED),
        failed_at=at(BatchStatus.FAILED),
        expired_at=at(BatchStatus.EXPIRED),
        cancelling_at=at(BatchStatus.CANCELLING),
        cancelled_at=at(BatchStatus.CANCELLED),
        request_counts=RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
        metadata=batch.metadata or None,
        millrace=OfMillrace(cost_usd=float(batch.cost), saved_usd=float(batch.saved), waits_for=waits_for or None),
    )


def too_big(what: str) -> MillraceError:
    """Return the error of a file that is over a limit."""
    most = f"{limits.BATCH_BYTES // 10**6} MB and {limits.BATCH_LINES:,} lines"
    return MillraceError(
        "message_too_big", f"file: it has over {what}; a file has at most {most}: split it", param="file"
    )


def _not_json(text: bytes, error: Exception) -> MillraceError:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return MillraceError("invalid_json", f"not JSON: {error}")
    return MillraceError("invalid_request", f"a line must be a JSON object, not {json_name(found)}")


def _text_of(fields: dict[str, Raw], name: str) -> str | None:
    """Return a field that is a text; None if it is missing or something else."""
    try:
        return msgspec.json.decode(fields[name], type=str)
    except (KeyError, msgspec.DecodeError, UnicodeError):
        return None
