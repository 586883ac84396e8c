"""Settings of models become models, and the adapters that call them."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from millrace import pricing, tokens
from millrace.funnel.catalog import Catalog
from millrace.funnel.ratios import Ratios
from millrace.ports import Clock, EmbeddingsUpstream, ProviderBatches
from millrace.runs.embeddings import EmbeddingModel
from millrace.settings import EmbedderSettings, EmbeddingsSettings, ModelSettings, Settings
from millrace.types import BATCH_TIER, Api, Deployment, Model, Price, Tier
from millrace.upstreams.attempt import HttpUpstream
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.connections import Connections
from millrace.upstreams.embeddings import EmbeddingsEndpoint, OpenAIEmbeddings
from millrace.upstreams.endpoint import UpstreamEndpoint
from millrace.upstreams.messages.api import MESSAGES
from millrace.upstreams.provider_api import ProviderApi
from millrace.upstreams.quirks import PRESETS, CallIds, Quirks, Reasoning, Thinking
from millrace.upstreams.responses.api import RESPONSES

APIS: dict[str, ProviderApi] = {  # by the name of `upstream` in the settings
    "openai": CHAT,
    "responses": RESPONSES,
    "anthropic": MESSAGES,
}
OPENAI = "api.openai.com"
_API = {"openai": Api.CHAT, "responses": Api.RESPONSES, "anthropic": Api.MESSAGES}


def embedding_model(model: EmbeddingsSettings) -> EmbeddingModel:
    """Return the model that requests for embeddings are passed on to."""
    return EmbeddingModel(id=model.model, price=Price(input=model.price.input, output=pricing.ZERO))


def served_embeddings(
    settings: Settings, connections: Connections, wall: Clock
) -> tuple[EmbeddingModel, EmbeddingsUpstream] | None:
    """Return the model for embeddings and its API, if one is configured."""
    model = settings.models.embeddings
    if model is None:
        return None
    return embedding_model(model), embeddings_upstream(model, connections, wall, model.timeout_s)


def embeddings_upstream(
    model: EmbeddingsSettings | EmbedderSettings, connections: Connections, wall: Clock, timeout_s: float
) -> EmbeddingsUpstream:
    """Return the API of a model for embeddings, with seconds for a whole answer."""
    endpoint = EmbeddingsEndpoint(
        base_url=model.base_url,
        model=model.model,
        api_key=os.environ[model.api_key_env] if model.api_key_env else None,
        connect_timeout_s=model.connect_timeout_s,
        timeout_s=timeout_s,
    )
    return OpenAIEmbeddings(connections, endpoint, wall)


def connections_of(settings: Settings) -> Connections:
    """Return what sends requests to models."""
    return Connections(pulls=settings.server.upstream_client == "aiohttp")


def catalog(settings: Settings, ratios: Ratios | None = None) -> Catalog:
    """Return all models that are configured, and their other names. `ratios` is what their counts are corrected by."""
    models = settings.models
    both = {"small": _model(Tier.SMALL, models.small), "large": _model(Tier.LARGE, models.large)}
    chains = {
        tier: tuple(both[name] if name in both else _model(tier, models.more[name], name) for name in first.fallback)
        for tier, first in ((Tier.SMALL, models.small), (Tier.LARGE, models.large))
    }
    return Catalog(
        both["small"],
        both["large"],
        models.aliases,
        settings.funnel.strategy,
        embeddings=models.embeddings.model if models.embeddings else "",
        chains=chains,
        ratios=ratios,
    )


class Served(NamedTuple):
    """One deployment of a model: the section of the model as it is there, and its API."""

    model: Model
    section: ModelSettings
    deployment: Deployment
    upstream: HttpUpstream


def served(
    settings: Settings, catalog: Catalog, connections: Connections, clock: Clock, before: Iterable[Served] = ()
) -> list[Served]:
    """Return the deployments of all models that may be asked, those of the small and the large one first.

    One that was there `before`, and has not changed, keeps its upstream, and what that has learned.
    """
    sections = {"small": settings.models.small, "large": settings.models.large} | settings.models.more
    by_name = {model.name: model for model in catalog.identities}
    known = [*before]

    def upstream(model: Model, section: ModelSettings) -> HttpUpstream:
        api, endpoint = APIS[section.upstream], _endpoint(section)
        for each in known:
            is_same_model = (each.model.name, each.model.id) == (model.name, model.id)
            if is_same_model and (each.upstream.api, each.upstream.endpoint) == (api, endpoint):
                known.remove(each)
                return each.upstream
        return HttpUpstream(api, connections, endpoint, clock)

    return [
        Served(
            model=model,
            section=section,
            deployment=Deployment(label=label, weight=weight),
            upstream=upstream(model, section),
        )
        for name, model in by_name.items()
        for label, weight, section in sections[name].places()
    ]


def _model(tier: Tier, model: ModelSettings, name: str = "") -> Model:
    _, _, first = next(model.places())  # the caches know the model by it: deployments may come and go
    return Model(
        tier=tier,
        id=model.model,
        own_name=name,
        address=f"{model.upstream} {model.base_url or first.base_url}",
        api=_API[model.upstream],
        price=model.price.read(),
        tier_prices={tier: price.read() for tier, price in model.tier_prices.items()} | _batch_price(model),
        context_window=model.context_window,
        encoding=tokens.encoding_of(model.model, model.encoding),
        max_output_tokens=model.max_output_tokens,
        cap_tool_calls=model.cap_tool_calls,
    )


def _batch_price(model: ModelSettings) -> dict[str, Price]:
    """Return the price of what the provider answers in a batch: half of the usual one, if it has none of its own."""
    if not model.batch or (model.price_batch is None and BATCH_TIER in model.tier_prices):
        return {}
    return {BATCH_TIER: model.price.read().half if model.price_batch is None else model.price_batch.read()}


def provider_batches(served: Iterable[Served]) -> dict[Tier, ProviderBatches]:
    """Return the batch APIs of the models that have one, by the model's tier. The first deployment of each is asked."""
    found: dict[Tier, ProviderBatches] = {}
    for each in served:
        if each.section.batch and not each.model.own_name and each.model.tier not in found:
            from millrace.upstreams.provider_batches import OpenAIBatches  # noqa: PLC0415 - aiohttp is a slow import

            found[each.model.tier] = OpenAIBatches(each.upstream, each.model.id)
    return found


def _endpoint(model: ModelSettings) -> UpstreamEndpoint:
    return UpstreamEndpoint(
        base_url=model.base_url,
        api_key=os.environ[model.api_key_env] if model.api_key_env else None,
        connect_timeout_s=model.connect_timeout_s,
        first_token_timeout_s=model.first_token_timeout_s,
        stall_timeout_s=model.stall_timeout_s,
        quirks=_quirks(model),
    )


def _quirks(model: ModelSettings) -> Quirks:
    read = {
        "reasoning_content": ("reasoning", Reasoning),
        "call_ids": ("call_ids", CallIds),
        "thinking": ("thinking", Thinking),
        "own_fields": ("own_fields", frozenset),
        "drop": ("drop", frozenset),
    }
    changes: dict[str, Any] = {}
    for key, value in msgspec.structs.asdict(model.quirks).items():
        if value is not None:
            name, kind = read.get(key, (key, type(value)))
            changes[name] = kind(value)
    quirks = replace(PRESETS[model.provider], **changes)
    if model.prefix_cache is not None:
        return replace(quirks, cache_key=model.prefix_cache, marks=model.prefix_cache)
    is_openai = model.provider == "auto" and urlsplit(model.base_url).hostname == OPENAI
    return replace(quirks, cache_key=True) if is_openai else quirks
