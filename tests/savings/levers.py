"""The levers: what each changes of the configuration and of the requests, as its user would do it by the README."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.savings.mix import Mix
from tests.savings.workload import Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """What one lever sets. Without any the large model is asked for everything, and no cache."""

    name: str
    says: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # by section
    millrace: dict[str, Any] = field(default_factory=dict)  # options of each request
    trims: bool = False  # a budget for long contexts
    discounts: bool = False  # cached input costs what the provider asks for it
    needs: str = ""  # another lever, without which it does nothing


ROUTING = "routing"
OFF: dict[str, dict[str, Any]] = {
    "funnel": {"hedge_share": 0},
    "cache": {"exact": False, "semantic": False},
    "evidence": {"judged": False},
}
ON_CACHE: dict[str, Any] = {"cache": "on"}
LEVERS = (
    Lever(name="exact", says="the exact cache, and joins", settings={"cache": {"exact": True}}, millrace=ON_CACHE),
    Lever(
        name="semantic",
        says="the semantic cache, and joins",
        settings={"cache": {"semantic": True}, "evidence": {"judged": True}},
        millrace=ON_CACHE,
    ),
    Lever(
        name=ROUTING,
        says="`auto` with a calibrated share of large calls, and checks",
        settings={"evidence": {"judged": True}},
        millrace={"strategy": "auto"},
    ),
    Lever(name="trimming", says="a budget for retrieved contexts", trims=True),
    Lever(name="prefix", says="the provider's cache of prompts, at its price", discounts=True),
    Lever(name="concise", says="`concise`: the line that asks for brevity", millrace={"concise": True}),
    Lever(
        name="hedge",
        says="routing, with company for silent calls at the default share",
        settings={"funnel": {"hedge_share": 0.1}},
        needs=ROUTING,
    ),
)
BY_NAME = {lever.name: lever for lever in LEVERS}
ALL, NONE = "all on", "large only"


@dataclass(frozen=True, slots=True)
class Setup:
    """One run: its name, and the levers that are on."""

    name: str
    levers: tuple[Lever, ...]

    @property
    def routes(self) -> bool:
        """Whether the router says who is asked."""
        return any(lever.name == ROUTING for lever in self.levers)

    def settings(self, mix: Mix, urls: dict[str, str], data_dir: Path, large_share: float | None = None) -> str:
        """Return the server's configuration file. `large_share` is what a calibration has found."""
        sections: dict[str, dict[str, Any]] = {name: dict(keys) for name, keys in OFF.items()}
        sections["server"] = {"port": 0, "data_dir": str(data_dir)}
        for lever in self.levers:
            for name, keys in lever.settings.items():
                sections.setdefault(name, {}).update(keys)
        if self.routes and large_share is not None:
            sections["router"] = {"large_share": large_share}
        discounts = any(lever.discounts for lever in self.levers)
        for name, url in urls.items():
            price = getattr(mix.prices, name)
            prices = {"input": price.input, "output": price.output}
            if discounts:
                prices["cached_input"] = price.cached_input
            model = f"{name}-model"
            sections[f"models.{name}"] = {"upstream": "openai", "base_url": url, "model": model, "price": prices}
        return "".join(f"[{name}]\n{_lines(keys)}" for name, keys in sections.items())

    def options(self, mix: Mix, ask: Ask | None = None) -> dict[str, Any]:
        """Return the options of a request."""
        options: dict[str, Any] = {"strategy": "large", "cache": "off"}
        for lever in self.levers:
            options |= lever.millrace
        if ask is not None:
            options["tag"] = ask.tag
            if ask.context:
                options["context"] = list(ask.context)
                if any(lever.trims for lever in self.levers):
                    options["context_budget"] = mix.retrieved.budget
        return options


def setups(only: Iterable[str] = ()) -> list[Setup]:
    """Return all runs: without levers, each alone, all together. `only`: these alone, beside none and all."""
    wanted = [lever for lever in LEVERS if not only or lever.name in only]
    alone = [
        Setup(lever.name, tuple(each for each in LEVERS if each.name in (lever.needs, lever.name))) for lever in wanted
    ]
    return [Setup(NONE, ()), *alone, Setup(ALL, LEVERS)]


def _lines(keys: dict[str, Any]) -> str:
    return "".join(f"{name} = {_toml(value)}\n" for name, value in keys.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_toml(each)}' for name, each in value.items())} }}"
    return json.dumps(value)
