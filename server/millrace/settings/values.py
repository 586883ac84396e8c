"""Faults of values that have the right type and still cannot work."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

from millrace.access.origins import parse
from millrace.funnel.checks.guards import BadPatternError, usable, word_pattern
from millrace.funnel.checks.own import GROUP
from millrace.funnel.checks.table import NAMES
from millrace.settings.faults import Fault, Override, at, listed, split
from millrace.types import STANDARD_TIERS

RESERVED = ("auto", "small", "large")
PROMISES = ("large_share", "keep_quality", "spend_per_day")  # of the router
_WRITE_URL = 'write base_url = "https://HOST/v1"'


def invalid_values(tree: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield faults of values that have the right type and still cannot work."""
    origins = at(tree, "server", "origins")
    for origin in split(origins) if isinstance(origins, Override) else origins if isinstance(origins, list) else ():
        if isinstance(origin, str) and parse(origin) is None:
            yield Fault("server.origins", f'{origin!r} is no origin; write it as browsers do: "https://app.example"')
    more = at(tree, "models", "more")
    stand_ins: dict[str, Any] = more if isinstance(more, dict) else {}
    yield from _invalid_stand_ins(stand_ins)
    for tier in ("small", "large"):
        model = at(tree, "models", tier)
        yield from _invalid_place(model, f"models.{tier}", environ)
        yield from _invalid_fallback(model, tier, [*(name for name in ("small", "large") if name != tier), *stand_ins])
    for name, model in stand_ins.items():
        yield from _invalid_place(model, f"models.more.{name}", environ)
    ids = [at(tree, "models", tier, "model") for tier in ("small", "large")]
    yield from _invalid_model(at(tree, "models", "embeddings"), "models.embeddings", environ)
    yield from _invalid_model(at(tree, "cache", "embedder"), "cache.embedder", environ)
    if (embeddings := at(tree, "models", "embeddings", "model")) in ids and embeddings is not None:
        yield Fault("models.embeddings.model", f"{embeddings!r} is also another model's name; they must differ")
    ids.append(embeddings)
    names = [*RESERVED, *(id_ for id_ in ids if isinstance(id_, str))]
    yield from _unusable_guards(tree)
    yield from _invalid_checks(at(tree, "checks", "off"))
    aliases = at(tree, "models", "aliases")
    for alias, target in aliases.items() if isinstance(aliases, dict) else ():
        if alias in names:
            yield Fault(f"models.aliases.{alias}", f"{alias!r} is the name of a model; choose another alias")
        if alias == "*" and target == embeddings is not None:
            yield Fault('models.aliases."*"', f"{target!r} makes embeddings; write one of {listed(RESERVED)}")
        if isinstance(target, str) and target not in names:
            yield Fault(f"models.aliases.{alias}", f"{target!r} names no model; write one of {listed(names)}")
    promised = [name for name in PROMISES if at(tree, "router", name) is not None]
    for name in promised[1:]:
        yield Fault(f"router.{name}", f"the router keeps one promise, and {promised[0]} is one; leave out all but one")


def _invalid_checks(off: Any) -> Iterator[Fault]:
    """Yield the names that no check has, of those that are switched off."""
    if not isinstance(off, list | Override):
        return
    names = (*NAMES, *sorted(point.name for point in entry_points(group=GROUP)))
    for name in split(off) if isinstance(off, Override) else off:
        if isinstance(name, str) and name not in names:
            yield Fault("checks.off", f"{name!r} is no check; write names of {listed(names)}")


def _unusable_guards(tree: dict[str, Any]) -> Iterator[Fault]:
    for key, written in (("patterns", usable), ("words", word_pattern)):
        found = at(tree, "guards", key)
        for each in split(found) if isinstance(found, Override) else found if isinstance(found, list) else ():
            try:
                if isinstance(each, str):
                    written(each)
            except BadPatternError as error:
                yield Fault(f"guards.{key}", f"{each!r} {error}")


def _invalid_stand_ins(stand_ins: Mapping[str, Any]) -> Iterator[Fault]:
    for name, model in stand_ins.items():
        if name in (*RESERVED, ""):
            yield Fault(f"models.more.{name}", f"{name!r} is the name of another model; choose another one")
        if at(model, "batch") is True:
            yield Fault(
                f"models.more.{name}.batch", "only lines for small or large alone go to a provider; leave it out"
            )
        if at(model, "fallback"):
            advice = "list all models in the fallback of small or large, in the order in which they are asked"
            yield Fault(f"models.more.{name}.fallback", f"a model that stands in has no fallback of its own; {advice}")


def _invalid_fallback(model: Any, tier: str, names: Sequence[str]) -> Iterator[Fault]:
    """Yield faults of a chain of models."""
    given = at(model, "fallback")
    chain = split(given) if isinstance(given, Override) else given if isinstance(given, list) else []
    for place, name in enumerate(chain):
        if isinstance(name, str) and name not in names:
            advice = f"write one of {listed(names)}, or add a section [models.more.{name}]"
            yield Fault(f"models.{tier}.fallback", f"{name!r} names no other model; {advice}")
        elif name in chain[:place]:
            yield Fault(f"models.{tier}.fallback", f"{name!r} is named twice; write it once")


def _invalid_place(model: Any, path: str, environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield faults of a model, and of where it is served."""
    yield from _invalid_model(model, path, environ)
    if at(model, "batch") is True and at(model, "upstream") == "anthropic":
        yield Fault(f"{path}.batch", "the Messages API has no batches as OpenAI's has them; leave it out")
    given = at(model, "deployments")
    deployments = given if isinstance(given, list) else []
    for number, deployment in enumerate(deployments):
        yield from _invalid_model(deployment, f"{path}.deployments[{number}]", environ)
        if not at(model, "base_url") and isinstance(deployment, dict) and not at(deployment, "base_url"):
            yield Fault(f"{path}.deployments[{number}].base_url", f"missing; {_WRITE_URL}, here or in [{path}]")
    if isinstance(model, dict) and not deployments and not at(model, "base_url"):
        yield Fault(f"{path}.base_url", f"missing; {_WRITE_URL}")


def _invalid_model(model: Any, path: str, environ: Mapping[str, str]) -> Iterator[Fault]:
    url = at(model, "base_url") or None
    if isinstance(url, str) and _has_credentials(url):
        advice = "put the key in a variable that api_key_env names"
        yield Fault(f"{path}.base_url", f"a user or password in a URL is not sent; write https://HOST/v1, and {advice}")
    elif isinstance(url, str) and not _is_http(url):
        yield Fault(f"{path}.base_url", f"{url!r} is not a URL; write http://HOST[:PORT]/v1 or https://...")
    name = at(model, "model")
    if name in (*RESERVED, ""):
        yield Fault(f"{path}.model", f"{name!r} is not a provider's model name; write the provider's own")
    tiers = at(model, "tier_prices")
    for tier in tiers if isinstance(tiers, dict) else ():
        if tier in STANDARD_TIERS:
            yield Fault(f"{path}.tier_prices.{tier}", f"{tier!r} is charged at the model's price; write it there")
    prices = {f"tier_prices.{tier}": price for tier, price in tiers.items()} if isinstance(tiers, dict) else {}
    for place, price in ({"price": at(model, "price"), "price_batch": at(model, "price_batch")} | prices).items():
        yield from _equal_steps(at(price, "steps"), f"{path}.{place}.steps")
    variable = at(model, "api_key_env")
    key = environ.get(variable) if isinstance(variable, str) else "-"
    if not key and not str(variable).isidentifier():  # it may be the key itself, which is not repeated
        advice = 'write the name of the variable that holds the key: api_key_env = "OPENAI_API_KEY"'
        yield Fault(f"{path}.api_key_env", f"it is no name of a variable; {advice}")
    elif not key:
        advice = f"run: export {variable}=... (or leave api_key_env out)"
        yield Fault(f"{path}.api_key_env", f"the variable {variable} is not set; {advice}")
    elif not (key.isascii() and key.isprintable()) or key != key.strip():
        yield Fault(f"{path}.api_key_env", f"the variable {variable} holds white space, or characters that no key has")


def _equal_steps(steps: Any, path: str) -> Iterator[Fault]:
    bounds = [at(step, "above_tokens") for step in steps] if isinstance(steps, list) else []
    for place, bound in enumerate(bounds):
        if bound is not None and bound in bounds[:place]:
            yield Fault(f"{path}[{place}].above_tokens", f"{bound} is the bound of an earlier step too; write it once")


def _has_credentials(url: str) -> bool:
    """Whether a URL has a user or a password, which faults must not repeat. If it cannot be split, an @ says so."""
    if not _is_http(url):
        return "@" in url
    return "@" in urlsplit(url).netloc


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_plain = not (parts.query or parts.fragment) and url.isprintable() and " " not in url
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and is_plain
    except ValueError:
        return False
