"""What is promised, and whether it holds, as far as anybody knows."""

import math
from decimal import Decimal

from millrace.funnel.routing.promises import Place, Promises
from millrace.funnel.routing.report import outlook_at
from millrace.wire import dashboard as wire, evidence
from millrace.wire.evidence import ShownRate

FEW = 50  # requests of which a share says little
SURE = 1.645  # standard deviations: 95 % on one side


def wrong_hits(semantic: evidence.ShownSemantic) -> wire.Promise:
    """Return how often hits of the semantic cache may be wrong, and are."""
    wrong, promised = semantic.wrong, semantic.promised
    return wire.Promise(
        kind="wrong_hits",
        name="semantic cache",
        promised=promised,
        is_upper=True,
        estimate=wrong.estimate,
        lower=wrong.lower,
        upper=wrong.upper,
        judged=wrong.judged,
        needed=semantic.needed,
        holds=_below(wrong.lower, wrong.upper, promised),
        because=_of_hits(wrong, promised, semantic.needed),
    )


def of_router(promises: Promises, tenant: str | None, spent_today: Decimal | None) -> list[wire.Promise]:
    """Return what `auto` promises, by the model name that is asked for. `spent_today`: None if that is not shown."""
    promised = promises.promised
    places = sorted(place for place in promises.places if tenant in (None, place[0]))
    if promised.large_share is not None:
        return [_large_share(promises, place, promised.large_share) for place in places]
    if promised.keep_quality is not None:
        return [_quality(promises, place, promised.keep_quality) for place in places]
    if promised.spend_per_day is not None:
        return [_spend(promises, places, promised.spend_per_day, spent_today)]
    return []


def _large_share(promises: Promises, place: Place, promised: float) -> wire.Promise:
    recent = promises.recent(place)
    count, share = len(recent), recent.large_share
    margin = SURE * math.sqrt(promised * (1 - promised) / count) if count else 1.0
    return wire.Promise(
        kind="large_share",
        name=place[1],
        promised=promised,
        is_upper=True,
        estimate=share if count else None,
        lower=max(0.0, share - margin) if count else None,
        upper=min(1.0, share + margin) if count else None,
        judged=count,
        needed=max(0, FEW - count),
        holds="unknown" if count < FEW else "yes" if share <= promised + margin else "no",
        because=promises.threshold(place).reason,
    )


def _quality(promises: Promises, place: Place, promised: float) -> wire.Promise:
    pairs, share = promises.pairs(place), promises.recent(place).large_share
    found = outlook_at(pairs, share, None) if pairs else None
    estimate, lower, upper = (None, None, None) if found is None else (found.quality, found.lower, found.upper)
    if share >= 1:  # the large model's own
        estimate = lower = upper = 1.0
    return wire.Promise(
        kind="quality",
        name=place[1],
        promised=promised,
        is_upper=False,
        estimate=estimate,
        lower=lower,
        upper=upper,
        judged=len(pairs),
        needed=promises.needed(place),
        holds=_above(lower, upper, promised),
        because=promises.threshold(place).reason,
    )


def _spend(promises: Promises, places: list[Place], promised: Decimal, spent: Decimal | None) -> wire.Promise:
    because = promises.threshold(places[0]).reason if places else "nothing was asked yet"
    return wire.Promise(
        kind="spend",
        name="today",
        promised=promised,
        is_upper=True,
        estimate=spent,
        lower=None,
        upper=None,
        judged=0,
        needed=None,
        holds="unknown" if spent is None else "yes" if spent <= promised else "no",
        because=because,
    )


def _below(lower: float | None, upper: float | None, promised: float) -> wire.Holds:
    if upper is not None and upper <= promised:
        return "yes"
    return "no" if lower is not None and lower > promised else "unknown"


def _above(lower: float | None, upper: float | None, promised: float) -> wire.Holds:
    if lower is not None and lower >= promised:
        return "yes"
    return "no" if upper is not None and upper < promised else "unknown"


def _of_hits(wrong: ShownRate, promised: float, needed: int | None) -> str:
    if wrong.upper is None:
        return f"no hit was judged yet; promised are at most {promised:.2%} wrong ones"
    said = f"at most {wrong.upper:.2%} of the hits are wrong (a 95 % bound, from {wrong.judged} judged)"
    more = f"; {needed} more that are right would show it" if needed else ""
    return f"{said}; promised are at most {promised:.2%}{more}"
