"""What a run is held to: `--fail-if 'p99_ttft>800ms'`. One that is crossed, or that cannot be told, fails the run."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from millrace_client.load import slo
from millrace_client.load.figures import Figures, Measured

_TEXT = re.compile(r"\s*([a-z0-9_.]+)\s*(>=|<=|>|<)\s*(\S.*?)\s*")
_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_STATISTICS = {name: name for name in ("mean", "p50", "p90", "p95", "p99", "max")} | {"p99.9": "p999", "p999": "p999"}
_TIMES = ("ttft", "ttft_standing", "ttft_service", "itl", "tpot", "e2e", "e2e_service", "wait", "schedule_lag")
_SHARES: dict[str, Callable[[Figures], float | None]] = {
    "error_rate": lambda figures: figures.error_rate,
    "goodput": lambda figures: figures.goodput,
    "hit_rate": lambda figures: figures.hit_rate,
    "large_share": lambda figures: figures.routes.get("large", 0) / figures.answered if figures.answered else None,
}
_DOLLARS: dict[str, Callable[[Figures], float | None]] = {
    "cost": lambda figures: None if figures.cost_usd is None else float(figures.cost_usd),
    "cost_per_request": lambda figures: None if figures.cost_each_usd is None else float(figures.cost_each_usd),
}
_NUMBERS: dict[str, Callable[[Figures], float | None]] = {
    "errors": lambda figures: float(sum(figures.errors.values())),
    "rps": lambda figures: figures.achieved_rps,
    "goodput_rps": lambda figures: figures.goodput_rps,
    "tokens_per_s": lambda figures: figures.tokens_per_s,
}
_ABOUT_ERRORS = {"errors", "error_rate", "goodput", "goodput_rps"}
_NEED_SLO = {"goodput", "goodput_rps"}
_HINT = (
    f"write NAME, one of {' '.join(_COMPARE)}, and a value: p99_ttft>800ms. NAME is STATISTIC_TIME, with one of "
    f"{', '.join(_STATISTICS)} and one of {', '.join(_TIMES)}; or ratio_STATISTIC_TIME with --compare; or "
    f"{', '.join([*_SHARES, *_DOLLARS, *_NUMBERS])}"
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound on one figure of a run."""

    text: str
    name: str
    comparison: str
    bound: float

    @property
    def is_about_errors(self) -> bool:
        """Whether it says how many errors are too many."""
        return self.name in _ABOUT_ERRORS

    @property
    def needs_comparison(self) -> bool:
        """Whether its figure is a ratio to another server."""
        return self.name.startswith("ratio_")

    @property
    def needs_slo(self) -> bool:
        """Whether its figure is of requests that met an objective."""
        return self.name in _NEED_SLO

    def value(self, measured: Measured) -> float | None:
        """Return the figure; None if there is none, or too few samples for it."""
        figures = measured.millrace
        simple = _SHARES | _DOLLARS | _NUMBERS
        if self.name in simple:
            return simple[self.name](figures)
        statistic, _, time = self.name.removeprefix("ratio_").partition("_")
        if self.needs_comparison:
            return measured.ratios.get(time, {}).get(_STATISTICS[statistic])
        spread = figures.course.schedule_lag if time == "schedule_lag" else getattr(figures, time)
        found: float | None = None if spread is None else getattr(spread, _STATISTICS[statistic])
        return found

    def fault(self, measured: Measured) -> str | None:
        """Return why the run fails; None if it does not."""
        value = self.value(measured)
        if value is None:
            return f"{self.text}: there are too few samples to tell; run longer, or choose a lower percentile"
        return f"{self.text}: it is {self._shown(value)}" if _COMPARE[self.comparison](value, self.bound) else None

    def _shown(self, value: float) -> str:
        if self.name in _SHARES:
            return f"{value:.2%}"
        if self.name in _DOLLARS:
            return f"${value:.6f}"
        if self.name in _NUMBERS or self.needs_comparison:
            return f"{value:.3g}"
        return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def parse(text: str) -> Threshold:
    """Return the threshold that a text says. Raises `ValueError`."""
    found = _TEXT.fullmatch(text)
    if found is None or not _is_known(found[1]):
        raise ValueError(f"{text!r} is no threshold; {_HINT}")
    name, comparison, bound = found.groups()
    return Threshold(text.strip(), name, comparison, _value(name, bound))


def _is_known(name: str) -> bool:
    statistic, _, time = name.removeprefix("ratio_").partition("_")
    is_time = statistic in _STATISTICS and time in _TIMES
    if name.startswith("ratio_"):
        return is_time and statistic != "max" and time not in {"ttft_standing", "wait", "schedule_lag"}
    return is_time or name in _SHARES | _DOLLARS | _NUMBERS


def _value(name: str, text: str) -> float:
    if name in _SHARES:
        return _number(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if name in _DOLLARS:
        return _number(text.removeprefix("$"))
    if name in _NUMBERS or name.startswith("ratio_"):
        return _number(text)
    return slo.seconds(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is no number")
    return number
