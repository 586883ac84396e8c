"""Settings of models become models, and the adapters that call them."""

import dataclasses
import os
from typing import Any, NamedTuple

import msgspec

from millrace import pricing, tokens
from millrace.funnel.catalog import Catalog
from millrace.funnel.ratios import Ratios
from millrace.ports import Clock, EmbeddingsUpstream
from millrace.runs.embeddings import EmbeddingModel
from millrace.settings import EmbedderSettings, EmbeddingsSettings, ModelSettings, PriceSettings, Settings
from millrace.types import Api, Deployment, Model, Price, Tier
from millrace.upstreams.attempt import HttpUpstream, UpstreamEndpoint
from millrace.upstreams.chat.api import CHAT
from millrace.upstreams.connections import Connections
from millrace.upstreams.embeddings import EmbeddingsEndpoint, OpenAIEmbeddings
from millrace.upstreams.messages.api import MESSAGES
from millrace.upstreams.provider_api import ProviderApi
from millrace.upstreams.quirks import PRESETS, CallIds, Quirks, Reasoning, Thinking
from millrace.upstreams.responses.api import RESPONSES

APIS: dict[str, ProviderApi] = {  # by the name of `upstream` in the settings
    "openai": CHAT,
    "responses": RESPONSES,
    "anthropic": MESSAGES,
}
_API = {"openai": Api.CHAT, "responses": Api.RESPONSES, "anthropic": Api.MESSAGES}


def embedding_model(model: EmbeddingsSettings) -> EmbeddingModel:
    """Return the model that requests for embeddings are passed on to."""
    return EmbeddingModel(id=model.model, price=Price(input=model.price.input, output=pricing.ZERO))


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


def served(settings: Settings, catalog: Catalog, connections: Connections, clock: Clock) -> list[Served]:
    """Return the deployments of all models that may be asked, those of the small and the large one first."""
    sections = {"small": settings.models.small, "large": settings.models.large} | settings.models.more
    by_name = {model.name: model for model in catalog.identities}
    return [
        Served(
            model=model,
            section=section,
            deployment=Deployment(label=label, weight=weight),
            upstream=HttpUpstream(APIS[section.upstream], connections, _endpoint(section), clock),
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
        price=_price(model.price),
        tier_prices={tier: _price(price) for tier, price in model.tier_prices.items()},
        context_window=model.context_window,
        encoding=tokens.encoding_of(model.model, model.encoding),
        max_output_tokens=model.max_output_tokens,
        cap_tool_calls=model.cap_tool_calls,
    )


def _price(given: PriceSettings) -> Price:
    return Price(**msgspec.structs.asdict(given))


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
    return dataclasses.replace(PRESETS[model.provider], **changes)
