"""Prices of models by their names: of those whose section says `price = "auto"`, or nothing.

The list is the package `genai-prices` (the extra `prices`). It is read where a configuration is, and nothing is
fetched. What is not found there is a fault that says what to write, never a price of 0.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from millrace.settings.faults import Fault, at

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

AUTO = "auto"
WRITE = 'write dollars per million tokens: price = { input = "0.15", output = "0.60" }'
_FREE = '"0" if it is free'
_INSTALL = "the list of prices is not installed; run: pip install 'millrace[prices]'"
# Providers by what the list calls them.
_LISTED = {
    "openai": "openai",
    "azure": "azure",
    "gemini": "google",
    "xai": "x-ai",
    "deepseek": "deepseek",
    "mistral": "mistral",
    "groq": "groq",
    "kimi": "moonshotai",
    "openrouter": "openrouter",
    "together": "together",
}
_OWN = ("vllm", "ollama", "llamacpp")  # servers of one's own, whose models have no price in any list
_KEYS = {  # of a price, and what the list calls them
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}
_TIERS = ({"service_tier": "flex"}, {"service_tier": "priority"}, {"processing": "batch"})


class NoPriceError(Exception):
    """No price is known. It says why, and what to do beside writing one."""


def fill(tree: dict[str, Any], today: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Fault]:
    """Write the prices that are looked up into a parsed configuration; yield a fault for each that is not known."""
    models = at(tree, "models")
    if not isinstance(models, dict):
        return
    more = models.get("more")
    sections = {f"models.{name}": models.get(name) for name in ("small", "large", "embeddings")}
    sections |= {f"models.more.{name}": model for name, model in (more if isinstance(more, dict) else {}).items()}
    for path, section in sections.items():
        if not isinstance(section, dict) or section.get("price", AUTO) != AUTO:
            continue
        has_output = not path.endswith(".embeddings")
        given, name, url = "price" in section, section.get("model"), _url(section)
        section["price"] = {"input": "0"} | ({"output": "0"} if has_output else {})  # that fault alone is told
        if not (isinstance(name, str) and isinstance(url, str)):  # these are faults of their own
            continue
        try:
            found = prices_of(name, url, str(section.get("provider", AUTO)), today(), has_output=has_output)
        except NoPriceError as error:
            missing = "not known" if given else "missing"
            yield Fault(f"{path}.price", f"{missing}: {error}; or {WRITE} ({_FREE})")
        else:
            section["price"] = found.pop("")
            given_tiers = section.get("tier_prices", {})
            if has_output and isinstance(given_tiers, dict):
                section["tier_prices"] = found | given_tiers


def prices_of(
    model: str, url: str, provider: str = AUTO, now: datetime | None = None, *, has_output: bool = True
) -> dict[str, dict[str, Any]]:
    """Return the prices of a model by service tier, as sections of a configuration; the standard one is named "".

    Raises `NoPriceError`.
    """
    if provider in _OWN:
        raise NoPriceError(f"a model on a server of one's own ({provider}) has no price in a list")
    try:
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - most configurations do without it
    except ImportError:
        raise NoPriceError(_INSTALL) from None
    by_name = _LISTED.get(provider)
    try:
        if by_name is None:
            get_snapshot().find_provider(None, None, url)
    except LookupError:
        raise NoPriceError(f'nobody who is listed serves models at {url}; name who does: provider = "openai"') from None
    try:
        listed, found = get_snapshot().find_provider_model(model, None, by_name, None if by_name else url)
    except LookupError:
        raise NoPriceError(f"no model {model!r} of {by_name or url} is in the list") from None
    now = now or datetime.now(UTC)
    standard, note = _standard(found, now)
    source = f"genai-prices {version('genai-prices')}, {listed.id}/{found.id}{note}"
    if (price := _section(standard, source, has_output=has_output)) is None:
        raise NoPriceError(f"the list has {found.id!r} of {listed.id} without a price for its tokens")
    sections = {"": price}
    for context in _TIERS:
        own = any(
            variant.when == context and (variant.constraint is None or variant.constraint.active(now))
            for variant in found.price_variants or ()
        )
        if own and (tier := _section(found.get_prices(now, context), source, has_output=has_output)) is not None:
            sections[next(iter(context.values()))] = tier
    return sections


def _url(section: Mapping[str, Any]) -> Any:
    """Return where a model is served, or where it is served first."""
    deployments = section.get("deployments")
    first = deployments[0] if isinstance(deployments, list) and deployments else None
    return section.get("base_url") or at(first, "base_url")


def _standard(model: "ModelInfo", now: datetime) -> tuple["ModelPrice", str]:
    """Return the price of today, and a note on it. Of prices by the hour the dearest counts."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint  # noqa: PLC0415 - as above

    if isinstance(model.prices, ModelPrice):
        return model.prices, ""
    current, hourly = model.prices[0].prices, []
    for one in model.prices[1:]:
        if isinstance(one.constraint, TimeOfDateConstraint):
            hourly.append(one.prices)
        elif one.constraint is None or one.constraint.active(now):
            current, hourly = one.prices, []
    if not hourly:
        return current, ""
    return max((current, *hourly), key=lambda price: (_at(price, "output"), _at(price, "input"))), ", its dearest hours"


def _section(price: "ModelPrice", source: str, *, has_output: bool) -> dict[str, Any] | None:
    """Return a price as the section of a configuration; None if it has none for tokens, or costs nothing.

    What costs nothing may be paid for in another way, so that is for its user to say.
    """
    needed = ("input", "output") if has_output else ("input",)
    if not all(_is_priced(price, key) for key in needed) or not any(_at(price, key) for key in needed):
        return None
    keys = _KEYS if has_output else needed
    bounds = sorted({tier.start for key in keys for tier in getattr(getattr(price, _KEYS[key], None), "tiers", ())})
    section: dict[str, Any] = {key: str(_at(price, key)) for key in keys if _is_priced(price, key)}
    if bounds and has_output:
        section["steps"] = [
            {"above_tokens": bound} | {key: str(_at(price, key, bound + 1)) for key in section} for bound in bounds
        ]
    return section | {"source": source}


def _is_priced(price: "ModelPrice", key: str) -> bool:
    return getattr(price, _KEYS[key], None) is not None


def _at(price: "ModelPrice", key: str, input_tokens: int = 0) -> Decimal:
    """Return dollars for a million tokens of a call with so many tokens of input; 0 where it has none."""
    found: Decimal | TieredPrices | None = getattr(price, _KEYS[key], None)
    if found is None or isinstance(found, Decimal):
        return found or Decimal(0)
    reached = [tier.price for tier in found.tiers if input_tokens > tier.start]
    return reached[-1] if reached else found.base
