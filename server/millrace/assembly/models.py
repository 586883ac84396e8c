"""Settings of models become models, and the adapters that call them."""

import dataclasses
import os
from typing import Any

import msgspec

from millrace import pricing
from millrace.funnel.catalog import Catalog
from millrace.ports import Clock, EmbeddingsUpstream
from millrace.runs.embeddings import EmbeddingModel
from millrace.settings import EmbedderSettings, EmbeddingsSettings, ModelSettings, PriceSettings, Settings
from millrace.types import Api, Model, Price, Tier
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


def catalog(settings: Settings) -> Catalog:
    """Return all models that are configured, and their other names."""
    return Catalog(
        _model(Tier.SMALL, settings.models.small),
        _model(Tier.LARGE, settings.models.large),
        settings.models.aliases,
        settings.funnel.strategy,
        embeddings=settings.models.embeddings.model if settings.models.embeddings else "",
    )


def upstream(connections: Connections, model: ModelSettings, clock: Clock) -> HttpUpstream:
    """Return the API of a model."""
    return HttpUpstream(APIS[model.upstream], connections, _endpoint(model), clock)


def _model(tier: Tier, model: ModelSettings) -> Model:
    return Model(
        tier=tier,
        id=model.model,
        address=f"{model.upstream} {model.base_url}",
        api=_API[model.upstream],
        price=_price(model.price),
        tier_prices={tier: _price(price) for tier, price in model.tier_prices.items()},
        context_window=model.context_window,
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
