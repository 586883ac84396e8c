"""The sections of the configuration, as frozen structs with their defaults."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import asdict, replace

from millrace.types import Price, Strategy
from millrace.wire import limits

IN_MEMORY = ":memory:"  # a data_dir that stores nothing

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Wait = Annotated[int, Meta(ge=0, le=60_000)]
Seconds = Annotated[float, Meta(gt=0)]
Line = Annotated[str, Meta(min_length=1)]

Provider = Literal[
    "auto", "openai", "azure", "gemini", "xai", "deepseek", "mistral", "groq", "kimi", "openrouter", "together", "vllm",
    "ollama", "llamacpp",
]  # fmt: skip

BRIEFLY = "Answer as briefly as the question allows: no preamble, no repetition of the question, no closing remarks."


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen, where to store data, and the limits of the process."""

    host: str = "127.0.0.1"
    port: Port = 8000
    data_dir: str = ".millrace"  # ":memory:" stores nothing
    memory_bytes: Annotated[int, Meta(ge=16 * 2**20)] = 2**30  # of all stores, queues and caches in memory
    max_running: Count = 4096  # requests at once in this process
    max_connections: Count = 10_000  # WebSockets at once in this process
    origins: tuple[str, ...] = ()  # pages that may connect, such as "https://app.example"
    handshake_timeout_s: Seconds = 10  # for the complete head of a request to arrive
    max_message_bytes: Annotated[int, Meta(ge=1024, le=64 * 2**20)] = limits.MAX_MESSAGE_BYTES
    upstream_client: Literal["httptools", "aiohttp"] = "httptools"  # a proxy is always reached over aiohttp
    max_age_s: Seconds = limits.MAX_AGE_S  # of a connection
    stuck_s: Seconds = limits.STUCK_S  # for which a client may read nothing, or send a message (`LEAST_RATE`)
    drain_s: Annotated[float, Meta(ge=0)] = 30  # for running requests to end at shutdown
    store_ttl_s: Seconds = 30 * 86_400  # how long a response with `store: true` is kept
    store_bytes: Count = 2**30  # of all stored responses


class StepSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all tokens of a call cost whose input is longer than so many tokens."""

    above_tokens: Count
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None


class PriceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None  # of input that the provider writes to its cache
    cache_write_1h: Decimal | None = None  # to be kept for an hour
    steps: tuple[StepSettings, ...] = ()  # of longer input
    source: str = ""  # where it comes from, which `millrace doctor` shows; empty: the configuration

    def read(self) -> Price:
        """Return the price."""
        fields = asdict(self)
        steps = sorted((Price(**asdict(step)) for step in self.steps), key=lambda step: step.above_tokens)
        del fields["source"]
        return Price(**fields | {"steps": tuple(steps)})


class QuirksSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the provider of a model differs from the preset of its name. A key that is left out is the preset's."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    reasoning_content: Literal["no", "yes", "calls"] | None = None  # of earlier answers: whether it goes back
    reasoning_fields: tuple[Literal["reasoning_content", "reasoning"], ...] | None = None  # under which names
    system_role: Literal["system", "developer"] | None = None
    call_ids: Literal["any", "short", "nine"] | None = None  # which ids of tool calls it takes
    tool_names: bool | None = None  # whether the result of a call repeats the function's name
    empty_content: bool | None = None  # whether an answer that only calls has the content "", not null
    signatures: bool | None = None  # whether calls that another model made need a thought signature
    own_fields: tuple[str, ...] | None = None  # which fields of a provider's own go back to it; "*": all
    thinking: Literal["adaptive", "budget"] | None = None  # Messages API: how it is told to think
    system_turns: bool | None = None  # Messages API: whether instructions may stand between turns
    output_limit: Count | None = None  # Messages API: the most tokens of output that may be asked for
    drop: tuple[str, ...] | None = None  # fields that are not sent, such as "stream_options" and "assistant.name"


class DeploymentSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the places where a model is served. What is left out is that of the model's section."""

    base_url: str = ""
    api_key_env: str | None = None
    weight: Annotated[float, Meta(gt=0)] = 1  # its share of the calls, beside the weights of the others
    region: str = ""  # its name in attempts, log and health; without one it is a number


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One upstream model."""

    upstream: Literal["openai", "responses", "anthropic"]  # its API: chat completions, OpenAI's Responses, or Messages
    base_url: str = ""  # may be left out if each deployment has its own
    deployments: tuple[DeploymentSettings, ...] = ()  # none: it is served at `base_url` alone
    fallback: tuple[str, ...] = ()  # names of the models that are asked where this one cannot answer, in order
    model: str
    price: PriceSettings  # of the standard service tier; "auto", or nothing: it is looked up (`price_list.py`)
    tier_prices: dict[str, PriceSettings] = {}  # of others, such as "flex"; a tier without a price is not asked for
    batch: bool = False  # whether its provider has OpenAI's batch API, for lines of batches that ask this model alone
    price_batch: PriceSettings | None = None  # of these; None: half of the price
    api_key_env: str | None = None
    context_window: Count = 128_000  # tokens
    encoding: Literal["o200k_base", "cl100k_base", "estimate"] | None = None  # None: by the model's name
    max_output_tokens: Count | None = None  # of an answer; None: no cap
    cap_tool_calls: bool = False  # whether the cap also holds where a tool may be called: it cuts the call's arguments
    provider: Provider = "auto"
    prefix_cache: bool | None = None  # prompts are made easy to find in the provider's cache; None: where it is known
    quirks: QuirksSettings = QuirksSettings()
    connect_timeout_s: Seconds = 10
    first_token_timeout_s: Seconds = 60
    stall_timeout_s: Seconds = 30  # between two reads

    def places(self) -> "Iterator[tuple[str, float, ModelSettings]]":
        """Yield where it is served: a label, the weight, and the section as it is there.

        The label is the region, with a number if others have the same, or else a number; empty where there is one only.
        """
        regions = [each.region for each in self.deployments]
        for number, each in enumerate(self.deployments, 1):
            label = each.region or ("" if len(regions) == 1 else str(number))
            if each.region and regions.count(each.region) > 1:
                label = f"{each.region}-{regions[:number].count(each.region)}"
            base_url, key = each.base_url or self.base_url, each.api_key_env or self.api_key_env
            yield label, each.weight, replace(self, base_url=base_url, api_key_env=key)
        if not self.deployments:
            yield "", 1.0, self


class EmbeddingsPriceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens."""

    input: Decimal
    source: str = ""  # where it comes from


class EmbeddingsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that `POST /v1/embeddings` is passed on to."""

    base_url: str
    model: str
    price: EmbeddingsPriceSettings
    api_key_env: str | None = None
    connect_timeout_s: Seconds = 10
    timeout_s: Seconds = 60  # for the whole answer


class ModelsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The two models, and other names clients may use for them. The alias `*` is any name that is not known."""

    small: ModelSettings
    large: ModelSettings
    more: dict[str, ModelSettings] = {}  # that stand in for these two, by the name that `fallback` has
    embeddings: EmbeddingsSettings | None = None
    aliases: dict[str, str] = {}


class FunnelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests are routed."""

    strategy: Strategy = Strategy.AUTO
    context_budget: Count | None = None  # tokens of context and history; None: what the models take
    grace_ms: Wait = 300  # race: how long after the small model's first token the large one can still win
    hedge_ms: Wait = 800  # hedge: how long small may be silent, until its p95 TTFT is known
    hedge_share: Annotated[float, Meta(ge=0, le=0.5)] = 0.1  # of requests that may be hedged without being asked for it
    concise_line: Line = BRIEFLY  # the instruction that `concise` adds


class EmbedderSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model for embeddings that finds near questions in place of what is installed. What it costs is in no ledger."""

    base_url: str
    model: str
    dimensions: Count  # of its vectors
    shortened: bool = False  # whether the model is asked for vectors of that length
    api_key_env: str | None = None
    connect_timeout_s: Seconds = 10
    timeout_s: Seconds = 0.5  # that a lookup waits for it, and so a question that has no near one


class CacheSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caches."""

    exact: bool = True
    semantic: bool = True
    index_above: Count = 4000  # entries from which a scope of the semantic cache is indexed by hnswlib
    hot_scopes: Count = 256  # scopes of the semantic cache held in memory
    semantic_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None  # of a hit; None: the one that is shipped
    max_wrong_hit_rate: Annotated[float, Meta(gt=0, lt=1)] = 0.01  # of semantic hits; what evidence steers by
    embedder: EmbedderSettings | None = None
    ttl_s: Seconds = 86_400
    memory_bytes: Count = 256 * 2**20  # of both caches together
    disk_bytes: Count = 2**30  # of both caches together


Share = Annotated[float, Meta(ge=0, le=1)]


class EvidenceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often answers are asked for once more to be judged, by whom, and for how much."""

    judged: bool = True  # False: nothing is sampled, judged or learned
    hit_share: Share = 0.1  # of semantic hits that are answered once more
    small_share: Share = 0.01  # of answers of the small model, for which the large one is asked too
    large_share: Share = 0.01  # of requests that went to the large model at once, for which the small one is asked too
    dollars_per_day: Decimal = Decimal(1)  # for all of that, of a UTC day
    model_judge: Literal["none", "small", "large"] = "none"  # a model that judges what other judges leave open
    checked_share: Share = 0.05  # of what a judge has decided, of which a dearer one is asked too
    keep_days: Count = 30


class LedgerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every request has cost, and why."""

    keep_days: Annotated[int, Meta(ge=31)] = 400  # a month can be looked back on


class DashboardSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who sees what on the dashboard."""

    operators: tuple[Line, ...] = ()  # tenants whose admins see all tenants; any other admin sees the own one


class RouterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom `auto` asks first, and which promise it keeps. Without a promise the small model is asked first."""

    large_share: Share | None = None  # of requests that the large model is asked first for
    keep_quality: Annotated[float, Meta(gt=0, le=1)] | None = None  # of the large model's, that is kept
    spend_per_day: Decimal | None = None  # dollars of a UTC day; an aim of routing, not a limit
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.95  # with which `keep_quality` is kept
    learns: bool = True  # False: what was learned is used as it is


class ChecksSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The checks of answers."""

    off: tuple[str, ...] = ()  # names of checks that never run
    repair: bool = True  # whether the same model may correct its answer once, where that is cheaper


class GuardsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What no answer may hold."""

    secrets: bool = False  # keys and passwords of well-known forms
    cards: bool = False  # numbers of payment cards
    addresses: bool = False  # of mail
    patterns: tuple[str, ...] = ()  # regular expressions
    words: tuple[str, ...] = ()


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits. One that is left out is unlimited."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    in_flight: Count | None = None
    dollars_per_day: Decimal | None = None  # of UTC
    dollars_per_month: Decimal | None = None  # of UTC


class NamedLimitSettings(LimitSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one tenant, or of one tag; one that is left out is that of all others."""

    name: Line


class LimitsSettings(LimitSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of keys that set none of their own, and of tenants, their end users, and tags."""

    max_output_tokens: Count | None = None  # of an answer
    connections: Count | None = None
    tenant: LimitSettings = LimitSettings()  # of each tenant, all its keys together
    tenants: tuple[NamedLimitSettings, ...] = ()
    user: LimitSettings = LimitSettings()  # of each end user of a tenant
    tag: LimitSettings = LimitSettings()  # of each tag of a tenant
    tags: tuple[NamedLimitSettings, ...] = ()


StepName = Literal["warn", "small", "cache"]
DEFAULT_STEPS: tuple[tuple[str, StepName], ...] = (("0.8", "warn"), ("0.9", "small"), ("1.0", "cache"))


class BudgetsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done as a budget in dollars runs out: by the share of it that is spent, what it is from there on."""

    at: dict[str, StepName] = field(default_factory=lambda: dict(DEFAULT_STEPS))  # the keys are shares; {}: no steps
    webhook: str | None = None  # a URL that is told of each step
    webhook_key_env: str | None = None  # the variable with its key, which is sent as a bearer


class BatchSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Batches: files of requests that run behind those of visitors."""

    in_flight: Count = 16  # requests of all batches at once while no visitor asks; half as many beside visitors
    dollars_per_day: Decimal | None = (
        None  # of all batches, of a UTC day; then they wait. None: their keys' limits hold
    )
    keep_days: Count = 30  # files, and how batches ended
    disk_bytes: Count = 10 * 2**30  # of all files


class MetricsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`GET /metrics`, which admins may read in any case."""

    open: bool = False  # whoever reaches the port may read it, and sees all tenants
    key_env: str | None = None  # the variable with a key that reads it alone, and sees all tenants


class TracesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent to a collector of OpenTelemetry."""

    endpoint: str | None = None  # its URL; OTLP over HTTP. None: nothing is sent
    share: Share = 1.0  # of requests that are recorded, of those whose clients name no trace
    metrics: bool = True  # whether metrics are sent there too
    prompts: bool = False  # whether prompts and answers are sent, too


class SharedSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the replicas of a service share. Without URLs a process shares nothing beyond its data_dir."""

    redis: str | None = None  # URL of Redis: caches, limits, tickets, and who runs what
    postgres: str | None = None  # URL of PostgreSQL: ledger, keys, responses, evidence, and what the router has learned
    name: Line = "millrace"  # of the service; what it keeps in Redis begins so
    spool_bytes: Annotated[int, Meta(ge=2**20)] = 16 * 2**30  # of the disk, for rows that wait for PostgreSQL
    address: str | None = None  # URL at which the other replicas reach this one; None: its host and port


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    models: ModelsSettings
    server: ServerSettings = ServerSettings()
    funnel: FunnelSettings = FunnelSettings()
    cache: CacheSettings = CacheSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    ledger: LedgerSettings = LedgerSettings()
    dashboard: DashboardSettings = DashboardSettings()
    router: RouterSettings = RouterSettings()
    checks: ChecksSettings = ChecksSettings()
    guards: GuardsSettings = GuardsSettings()
    limits: LimitsSettings = LimitsSettings()
    batch: BatchSettings = BatchSettings()
    budgets: BudgetsSettings = BudgetsSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()
    shared: SharedSettings = SharedSettings()
