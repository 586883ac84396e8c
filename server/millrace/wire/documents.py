"""The small JSON documents of the HTTP endpoints. Responses are in `bodies`, chat completions in `chunks`."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from millrace.wire.responses import ErrorBody


class Refused(Struct):
    """Why there is no answer. `usage` is what the request cost, in the form of the same endpoint's answers."""

    error: ErrorBody
    usage: dict[str, Any] | UnsetType = UNSET


class ModelName(Struct):
    """A name that a request may give as its `model`."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "millrace"


class ModelNames(Struct):
    """All names that a request may give as its `model`."""

    data: list[ModelName]
    object: Literal["list"] = "list"


class FeedbackRequest(Struct):
    """What somebody thinks of an answer."""

    rating: Literal["up", "down"]
    better: str | None = None


class FeedbackDeleted(Struct):
    """How many entries of the caches had the answer, on disk; none is served again."""

    exact: int
    semantic: int


class FeedbackAnswer(Struct, kw_only=True):
    """That the feedback is kept."""

    object: Literal["response.feedback"] = "response.feedback"
    id: str
    rating: Literal["up", "down"]
    deleted: FeedbackDeleted


class TicketRequest(Struct):
    """The page that the ticket is for. The default is the `Origin` of the request."""

    origin: str | None = None


class TicketAnswer(Struct):
    """A ticket. `expires_at` is in Unix seconds."""

    ticket: str
    expires_at: int


class MemoryAccount(Struct):
    """One store, queue or cache in memory: the bytes that it uses, about, and may use."""

    name: str
    used: int
    allowed: int


class Memory(Struct):
    """All accounts, and what they use and may use together, in bytes."""

    used: int
    allowed: int
    accounts: list[MemoryAccount]


class Disk(Struct):
    """What waits to be written to disk: how many writes, their bytes, and for how many seconds the oldest has waited.

    `dropped` counts what the caches could not write since the start, because too much waited.
    """

    waiting: int
    waiting_bytes: int
    oldest_s: float
    dropped: int


class Counting(Struct, kw_only=True):
    """How the tokens of a model are counted. `exact`: in its own encoding; else it is an estimate.

    `ratio`: tokens of the model for one that is counted, as used. `reported`: the same, as its provider has reported
    so far; null until it has.
    """

    name: str
    model: str
    encoding: str
    exact: bool
    ratio: float
    reported: float | None


class Workers(Struct):
    """The workers of a server: how many take requests, and how many are to."""

    alive: int
    of: int


class Spooled(Struct):
    """The rows of the ledger that wait for PostgreSQL on the disk, the bytes that they take, and may take."""

    rows: int
    oldest_seconds: float
    bytes: int
    max_bytes: int


class Stores(Struct, omit_defaults=True):
    """What replicas share their state through: whether each answers. What is not configured is left out."""

    redis: Literal["ok", "away"] | UnsetType = UNSET
    postgres: Literal["ok", "away"] | UnsetType = UNSET
    ledger: Spooled | UnsetType = UNSET


class Health(Struct):
    """The process is alive. `epoch` identifies it; `running` is the number of requests that run in it.

    `workers` is how many processes of the same server take requests, where there are several. `redis` is whether Redis
    answers, where replicas share one.
    """

    status: Literal["ok"]
    version: str
    epoch: str
    running: int
    workers: Workers | UnsetType = UNSET
    redis: Literal["ok", "away"] | UnsetType = UNSET
    memory: Memory | UnsetType = UNSET  # with `?verbose`
    disk: Disk | UnsetType = UNSET  # with `?verbose`
    counting: list[Counting] | UnsetType = UNSET  # with `?verbose`
    shared: Stores | UnsetType = UNSET  # with `?verbose`, where replicas share something


class Fared(Struct, kw_only=True):
    """How a model or a deployment fares, as its last calls show. Times are Unix seconds.

    `unknown`: not called yet. `ok`. `degraded`: it answers again, but failed within the last minute, or a deployment of
    it fails. `failing`: it has failed since its last answer. `causes` counts failures since the start of the process.
    """

    status: Literal["unknown", "ok", "degraded", "failing"]
    failing_since: float | None
    last_answer_at: float | None
    last_failure_at: float | None
    last_cause: str | None
    failures_last_minute: int
    failures_last_5_minutes: int
    causes: dict[str, int]


class DeploymentHealth(Fared, kw_only=True):
    """How a deployment fares. Its `breaker` is `closed` if it is asked.

    Else it is `open`, or `half_open` while it is asked one word to see whether it answers again; `why` says why.
    """

    label: str
    weight: float
    running: int
    breaker: Literal["closed", "open", "half_open"]
    why: str | None


class ModelHealth(Fared, kw_only=True):
    """How a model fares: it fails if all its deployments do. `can_be_asked`: the breaker of one of them is closed.

    `name` is that of its section, and `tier` the one for which it answers. `ttft_p50_ms` and `ttft_p95_ms` are of the
    last calls for this tier, to the first delta; null while too few are known. `input_tokens` are those of its answers
    since the start of the process, `cached_input_tokens` those of them that were read from the provider's prompt cache.
    """

    tier: str
    name: str
    model: str
    can_be_asked: bool
    deployments: list[DeploymentHealth]
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    input_tokens: int
    cached_input_tokens: int


class Hedges(Struct, kw_only=True):
    """Calls that were started because another one was silent, since the start of the process.

    `won`: by such a call. `refused`: not started, for lack of budget. `off`: not started, because both models were
    slow, which they are now if `is_off`.
    """

    made: int
    won: int
    refused: int
    off: int
    is_off: bool


class Configuration(Struct):
    """By which settings it runs. Times are Unix seconds."""

    read_at: float  # those that hold, at the start or by a reload
    refused_at: float | None  # the last reload, if it had faults
    needs_restart: list[str]  # keys that were read then and do not hold yet


class Readiness(Struct):
    """Whether new requests are accepted."""

    status: Literal["ready", "draining"]
    models: list[ModelHealth] | UnsetType = UNSET  # with `?verbose`
    hedges: Hedges | UnsetType = UNSET  # with `?verbose`
    configuration: Configuration | UnsetType = UNSET  # with `?verbose`
