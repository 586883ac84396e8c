"""The objective that each request is held to: `--slo ttft=500ms,e2e=5s`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields

from millrace_client.load.sample import ANSWERED, Sample

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s|min)")
_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}


@dataclass(frozen=True, slots=True)
class Slo:
    """Upper bounds in seconds, each None if it does not matter. TTFT and E2E count from the intended start."""

    ttft: float | None = None
    itl: float | None = None  # of the longest gap between two deltas of an answer
    tpot: float | None = None
    e2e: float | None = None

    def __bool__(self) -> bool:
        return any(bound is not None for bound in asdict(self).values())

    def is_met_by(self, sample: Sample) -> bool:
        """Whether a request was answered, without an error, within every bound."""
        timeline = sample.timeline
        if sample.error is not None or sample.status not in ANSWERED:
            return False
        measured = {
            "ttft": timeline.first,
            "itl": max(timeline.gaps, default=None),
            "tpot": sample.tpot,
            "e2e": sample.total,
        }
        bounds = asdict(self)
        return all(
            bounds[name] is None or seconds is None or seconds <= bounds[name] for name, seconds in measured.items()
        )

    def __str__(self) -> str:
        bounds = ((name, bound) for name, bound in asdict(self).items() if bound is not None)
        return ", ".join(
            f"{name} ≤ {bound:g} s" if bound >= 1 else f"{name} ≤ {bound * 1e3:g} ms" for name, bound in bounds
        )


def seconds(text: str) -> float:
    """Return a time with its unit, such as 500ms, in seconds. Raises `ValueError`."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text.strip()!r} is no time; write it with its unit, such as 500ms or 5s")
    return float(found[1]) * _UNITS[found[2]]


def parse(text: str) -> Slo:
    """Return the objective that a text says. Raises `ValueError`."""
    names = [field.name for field in fields(Slo)]
    bounds: dict[str, float] = {}
    for part in text.split(","):
        name, is_given, bound = part.partition("=")
        name = name.strip().lower()
        if name not in names or not is_given:
            raise ValueError(f"{part.strip()!r} is no bound; write {', '.join(names)} with a time: ttft=500ms,e2e=5s")
        if name in bounds:
            raise ValueError(f"{name!r} is given twice")
        bounds[name] = seconds(bound)
        if not bounds[name]:
            raise ValueError(f"{name!r} must be above 0")
    return Slo(**bounds)
