"""What is told of every request that has ended, and who is."""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct

from millrace import log
from millrace.errors import EXITS
from millrace.ports import Ledger, Observer
from millrace.runs.intake import Traced
from millrace.settings import ModelSettings, Settings
from millrace.telemetry.figures import Figures
from millrace.telemetry.metrics import Access
from millrace.types import Entry

# Providers in the words of OpenTelemetry's conventions, where they have one.
_NAMES = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "xai": "x_ai",
    "mistral": "mistral_ai",
    "kimi": "moonshot_ai",
}


class Observed:
    """A ledger whose settled rows others are told of, too."""

    def __init__(self, ledger: Ledger, observers: Iterable[Observer]) -> None:
        self._ledger = ledger
        self._observers = tuple(observers)

    def opened(self, entry: Entry) -> None:
        """Record that a request began."""
        self._ledger.opened(entry)

    @property
    def wants_progress(self) -> bool:
        """Whether `progressed` is of use."""
        return self._ledger.wants_progress

    def progressed(self, entry: Entry) -> None:
        """Record what an open request has cost so far."""
        self._ledger.progressed(entry)

    def settled(self, entry: Entry) -> None:
        """Record how it ended, and tell all. A fault of one of them must not cost the request its end."""
        self._ledger.settled(entry)
        for observer in self._observers:
            try:
                observer.settled(entry)
            except EXITS:
                raise
            except BaseException as error:
                log.get().error("observer failed", id=entry.request_id, exc_info=error)


class Watched(Struct, frozen=True, kw_only=True):
    """The ledger, and what watches it."""

    ledger: Observed
    figures: Figures
    providers: "Providers"
    traced: Traced  # decides which requests are recorded


@asynccontextmanager
async def watching(settings: Settings, ledger: Ledger, epoch: str) -> AsyncIterator[Watched]:
    """Count every request that ends, and send what is to be sent of it; at the end, what is left of that."""
    providers = Providers(settings)
    figures = Figures(providers)
    if settings.traces.endpoint is None:
        observed = Observed(ledger, [figures])
        yield Watched(ledger=observed, figures=figures, providers=providers, traced=lambda trace: trace)
        return
    from millrace.telemetry.otlp import Sending, Tracing  # noqa: PLC0415 - it needs the extra `otel`

    sending = Sending(
        endpoint=settings.traces.endpoint,
        share=settings.traces.share,
        metrics=settings.traces.metrics,
        prompts=settings.traces.prompts,
    )
    tracing = Tracing(sending, figures, providers, epoch)
    tracing.start()
    try:
        observed = Observed(ledger, [figures, tracing])
        yield Watched(ledger=observed, figures=figures, providers=providers, traced=tracing.traced)
    finally:
        await tracing.close()


def access_of(settings: Settings) -> Access:
    """Return who may read the metrics without an admin's key."""
    variable = settings.metrics.key_env
    return Access(is_open=settings.metrics.open, key="" if variable is None else os.environ.get(variable, "").strip())


class Providers:
    """Who serves each model, by its id, as it is configured now."""

    def __init__(self, settings: Settings) -> None:
        self.settings: Callable[[], Settings] = lambda: settings
        self._known = settings, _names_of(settings)

    def __call__(self) -> Mapping[str, str]:
        """Return the names."""
        if self._known[0] is not (now := self.settings()):
            self._known = now, _names_of(now)
        return self._known[1]


def _names_of(settings: Settings) -> Mapping[str, str]:
    models, names = settings.models, {}
    for model in (*models.more.values(), models.large, models.small):
        names[model.model] = _provider_of(model)
    if models.embeddings is not None:
        names[models.embeddings.model] = "openai"
    return names


def _provider_of(model: ModelSettings) -> str:
    if model.provider != "auto":
        return _NAMES.get(model.provider, model.provider)
    return "anthropic" if model.upstream == "anthropic" else "openai"
