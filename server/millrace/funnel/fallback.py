"""Which models may stand in for another one: those that take all that the request needs."""

from collections.abc import Iterator

from millrace.funnel.catalog import Catalog, input_limit_of
from millrace.types import Api, Model, Prompt, Request, Strategy, Tier


def chain_of(model: Model, request: Request, catalog: Catalog) -> Iterator[Model]:
    """Yield the models that may be asked in place of one, in order.

    Under `auto` the small model stands in for the large one at last. It is not the other way round, since a small model
    that fails is followed by the large one anyhow, unless the request wants the small one alone. Where a budget runs
    out, the large one is not asked at all.
    """
    chain = [*catalog.chain(model.tier)] if not model.stands_in else []
    if model.tier is Tier.SMALL and (request.strategy is not Strategy.SMALL or request.budget_is_low):
        chain = [other for other in chain if other is not catalog.large]
    if model is catalog.large and request.strategy is Strategy.AUTO and catalog.small not in chain:
        chain.append(catalog.small)
    if not chain:
        return iter(())  # as most often; the other one is kept while the call runs, with all that it refers to
    return (other for other in chain if may_stand_in(other, model, request))


def may_stand_in(other: Model, model: Model, request: Request) -> bool:
    """Whether a model takes a request as another one does: its tools, its format, its history and its length."""
    prompt = request.prompt
    if request.counted_for(other).input_tokens > input_limit_of(other):
        return False
    last = next((one for message in reversed(prompt.messages) for one in reversed(message.sealed)), None)
    if last is not None and last.api is model.api and (other.api, other.id) != (model.api, model.id):
        return False  # it alone can read what it has signed or encrypted
    return all(other.api is model.api or other.api not in lacking for lacking in _lacking(prompt, model))


def _lacking(prompt: Prompt, model: Model) -> Iterator[frozenset[Api]]:
    """Yield the APIs that lack something which the request has and which the model takes."""
    every = frozenset(Api)
    for api in {tool.hosted.api for tool in prompt.tools if tool.hosted is not None}:
        if api is model.api:
            yield every - {api}
    if prompt.format is not None and prompt.format.schema is None:
        yield frozenset({Api.MESSAGES})  # it knows schemas alone
    if any(tool.grammar is not None for tool in prompt.tools):
        yield frozenset({Api.MESSAGES})
