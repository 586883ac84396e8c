"""Every metric there is: its name, kind, labels and meaning. docs/metrics.md lists them, docs/grafana.json shows them.

Names that begin with `gen_ai` are those of OpenTelemetry's conventions for generative AI, as Prometheus writes them.
Labels hold names of the configuration and words of Millrace's own: no key, no end user, no tag, no text.
"""

from enum import StrEnum

from msgspec import Struct

# The bounds that the conventions name, in seconds and in tokens.
DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKENS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
GAPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(4**power for power in range(14))
LAGS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
NANO = 10**9  # nanodollars of a dollar


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(Struct, frozen=True, eq=False):
    """One metric. `name` is without the suffixes that its kind adds. `scale` is by what a count is divided."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    scale: int = 1

    @property
    def shown_name(self) -> str:
        """The name, as it is listed; a histogram adds `_bucket`, `_sum` and `_count` to it."""
        return f"{self.name}_total" if self.kind is Kind.COUNTER else self.name


FAMILIES: list[Family] = []


def _family(
    kind: Kind, name: str, meaning: str, *labels: str, bounds: tuple[float, ...] = (), scale: int = 1
) -> Family:
    family = Family(name, kind, meaning, labels, bounds, scale)
    FAMILIES.append(family)
    return family


def _counter(name: str, meaning: str, *labels: str, scale: int = 1) -> Family:
    return _family(Kind.COUNTER, f"millrace_{name}", meaning, *labels, scale=scale)


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return _family(Kind.GAUGE, f"millrace_{name}", meaning, *labels)


def _of_requests(name: str, meaning: str, bounds: tuple[float, ...], *more: str) -> Family:
    models = "gen_ai_request_model", "gen_ai_response_model"
    labels = ("gen_ai_operation_name", "gen_ai_provider_name", *models, "answered_by", *more)
    return _family(Kind.HISTOGRAM, f"gen_ai_server_{name}", meaning, *labels, bounds=bounds)


def _of_calls(name: str, meaning: str, bounds: tuple[float, ...], *more: str) -> Family:
    labels = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", *more)
    return _family(Kind.HISTOGRAM, f"gen_ai_client_{name}", meaning, *labels, bounds=bounds)


# Requests of clients, as they end. `answered_by` and `source`: small, large, or the cache that answered.
REQUESTS = _counter(
    "requests", "Requests that have ended.", "status", "source", "cache", "strategy", "dialect", "model"
)
REQUEST_SECONDS = _of_requests(
    "request_duration_seconds", "From a request to the end of its answer.", DURATIONS, "error_type"
)
FIRST_TOKEN_SECONDS = _of_requests(
    "time_to_first_token_seconds", "From a request to the first text that its client was shown.", FIRST_TOKENS
)
TOKEN_GAP_SECONDS = _of_requests(
    "time_per_output_token_seconds", "Mean time between two tokens of an answer that a model gave.", GAPS
)
ANSWER_TOKENS = _counter(
    "answer_tokens", "Tokens of the answers shown, whoever gave them, and of their prompts.", "kind"
)
TRIMMED_TOKENS = _counter("trimmed_tokens", "Tokens that trimming cut from prompts.")
ERRORS = _counter("errors", "Requests that ended with an error, or incomplete, by why.", "code")
REFUSED = _counter("refused", "Requests and frames that were refused before they ran, of all tenants.", "code")

# Calls of models.
CALLS = _counter("calls", "Calls of models that have ended.", "model", "tier", "deployment", "outcome")
CALL_SECONDS = _of_calls("operation_duration_seconds", "From a call to its end.", DURATIONS, "error_type")
FIRST_CHUNK_SECONDS = _of_calls(
    "operation_time_to_first_chunk_seconds", "From a call to the first word of its model.", FIRST_TOKENS
)
CALL_TOKENS = _of_calls("token_usage", "Tokens of a call that are billed.", TOKENS, "gen_ai_token_type")
TOKENS_USED = _counter(
    "tokens",
    "Tokens of all calls. input has cached_input and cache_write in it, output has reasoning.",
    "model",
    "kind",
)

# Dollars. baseline - saved + lost_by_lever + wasted = spent, to the nanodollar.
SPENT = _counter("spent_dollars", "What calls of models have cost.", "model", "tier", scale=NANO)
BASELINE = _counter("baseline_dollars", "What the same requests would have cost on the large model.", scale=NANO)
SAVED = _counter("saved_dollars", "What each lever took off the bill.", "lever", scale=NANO)
LOST = _counter("lost_by_lever_dollars", "What a lever cost more, where it saved nothing.", "lever", scale=NANO)
WASTED = _counter("wasted_dollars", "What was paid for nothing, or beside the answer.", "kind", scale=NANO)

# Caches, routes, checks, races.
LOOKUPS = _counter("cache_lookups", "Lookups in a cache.", "cache", "result")
JOINED = _counter("joined", "Requests that shared the generation of an identical one.")
MISSES = _counter("semantic_misses", "Why the semantic cache served nothing.", "reason")
ROUTES = _counter(
    "routes", "Requests that a model was asked for, by whom was asked first and whose answer it is.", "first", "source"
)
ESCALATIONS = _counter("escalations", "Requests that went from the small model to the large one, by why.", "reason")
JUDGED = _counter(
    "judged_answers", "Answers that checks have judged; check is what failed, or passed.", "tier", "check"
)
RACES = _counter("races", "Races and hedges that have ended, by who won.", "strategy", "winner")

# The process, at this moment.
IN_FLIGHT = _gauge("in_flight_requests", "Requests that run.")
CONNECTIONS = _gauge("open_connections", "WebSockets that are open.")
STREAMS = _gauge("open_streams", "Answers that are streamed over HTTP.")
DRAINING = _gauge("draining", "1 while no new requests are taken.")
TASKS = _gauge("tasks", "Tasks of the event loop that have not ended.")
LAG = _family(
    Kind.HISTOGRAM,
    "millrace_event_loop_lag_seconds",
    "How late the event loop is, measured ten times a second.",
    bounds=LAGS,
)
QUEUED = _gauge("disk_queue_writes", "Writes that wait for the disk, the rows of the ledger among them.")
QUEUED_BYTES = _gauge("disk_queue_bytes", "The bytes of these writes.")
QUEUED_SECONDS = _gauge("disk_queue_oldest_seconds", "For how long the first of them has waited.")
DROPPED = _counter("disk_dropped_writes", "Writes of caches that were dropped because too much waited.")
STORE_UP = _gauge("shared_store_up", "1 while Redis, or PostgreSQL, answers; those that are configured.", "store")
WAITING_ROWS = _gauge("ledger_waiting_rows", "Rows of the ledger that have not arrived in PostgreSQL.")
WAITING_SECONDS = _gauge("ledger_waiting_oldest_seconds", "For how long the first of them has waited.")
WAITING_USED = _gauge("ledger_waiting_ratio", "The share of shared.spool_bytes that they take, about.")
MEMORY = _gauge("memory_bytes", "Bytes that stores, queues and caches hold.", "account")
MEMORY_LIMIT = _gauge("memory_limit_bytes", "Bytes that they may hold together.")
WORKERS = _gauge("workers", "Processes that serve together: `serve --workers`.")
SHARING_LAG = _gauge(
    "semantic_sharing_lag_seconds",
    "For how long the semantic caches of other replicas have lacked something of this one (sent), or the reverse.",
    "direction",
)
BUILD = _gauge("build_info", "1, with the version that runs.", "version", "python")

# Models and their deployments.
CAN_BE_ASKED = _gauge("model_can_be_asked", "1 if a deployment of the model can be asked now.", "model", "tier")
BREAKER = _gauge(
    "deployment_breaker", "1 for the state that the breaker is in.", "model", "name", "deployment", "state"
)
RUNNING_CALLS = _gauge("deployment_running_calls", "Calls that run.", "model", "name", "deployment")
FAILURES = _counter("deployment_failures", "Calls that have failed, by why.", "model", "name", "deployment", "cause")

# Budgets, batches, evidence.
BUDGET_USED = _gauge(
    "budget_used_ratio", "The share of its budget that the account furthest has spent.", "account", "period"
)
BUDGET_STEPS = _gauge(
    "budget_accounts", "Accounts with a budget, by the step that they have reached.", "account", "step"
)
BATCHES = _gauge("unfinished_batches", "Batches that are not done, by where they stand.", "status")
BATCH_LINES = _gauge("unfinished_batch_lines", "Requests of batches that are not done.", "state")
EVIDENCE = _gauge("evidence_judged", "Answers of the last 7 days that were judged.", "lever")
WRONG = _gauge(
    "evidence_wrong_ratio",
    "The share that was wrong (semantic), or that the other model answered otherwise; bounds of 95 % each.",
    "lever",
    "bound",
)
PROMISED = _gauge(
    "evidence_promised_wrong_hit_ratio", "The share of wrong hits that the semantic cache is steered to stay below."
)

# What is sent to a collector of OpenTelemetry.
TRACED = _counter(
    "traced_requests", "Requests whose spans were handed over, or dropped because too many waited.", "result"
)

# What each worker of a server sees as it is: the highest is shown, and of all others the sum.
SAME = frozenset(
    {
        *(DRAINING, QUEUED_SECONDS, BUILD, CAN_BE_ASKED, BREAKER),
        *(STORE_UP, WAITING_ROWS, WAITING_SECONDS, WAITING_USED),
        *(BUDGET_USED, BUDGET_STEPS, EVIDENCE, WRONG, PROMISED),
    }
)
NAMES = {family.name: family for family in FAMILIES}
