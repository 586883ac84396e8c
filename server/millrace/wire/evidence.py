"""The JSON document of `GET /v1/evidence`, which `millrace evidence --json` prints too. Times are Unix seconds.

A number that is not known yet is null. All bounds are of 95 % each.
"""

import re
from typing import Literal

from msgspec import Struct

SINCE = "7d"  # the period of a report, unless one is asked for
DURATION = "write how long ago, such as 90m, 12h, 7d or 4w"

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class ShownRate(Struct, kw_only=True):
    """A share of what was judged, with its bounds. `since` is when the oldest sample that counts was taken.

    `effective` is the size of a simple random sample that would say as much.
    """

    judged: int
    effective: float
    estimate: float | None
    lower: float | None
    upper: float | None
    since: float | None


class ShownHits(Struct, kw_only=True):
    """How often hits of the semantic cache were wrong, of a tenant (`scope` is empty then) or of one of its scopes.

    `needed` more hits, all judged right, bring the upper bound below what is promised. `strictness` is added to the
    log odds that a hit needs. A scope that is `off` serves nothing for now.
    """

    tenant: str
    scope: str
    wrong: ShownRate
    needed: int | None
    strictness: float
    off: bool


class ShownSemantic(Struct, kw_only=True):
    """How often hits were wrong, over all and where most were judged, and the promise that is kept by it."""

    promised: float
    wrong: ShownRate
    needed: int | None
    tenants: list[ShownHits]
    scopes: list[ShownHits]


class ShownCheck(Struct, kw_only=True):
    """How well a check tells wrong answers of the small model from right ones, whether it acts or only looks on.

    `catch` is the share of the wrong answers that it flags, `false_alarms` that of the right ones. `needless`: how
    often the large model said the same as the answer that it took back. For the tenants in `off` it is switched off.
    """

    check: str
    catch: ShownRate
    false_alarms: ShownRate
    needless: ShownRate
    off: list[str]


class ShownJudge(Struct, kw_only=True):
    """How often a judge is wrong, from the `compared` pairs of which a dearer one spoke too; null: not checked yet.

    `misses`: it says "same" of answers that differ. `alarms`: it says "different" of answers that are the same.
    """

    judge: str
    said: int
    compared: int
    misses: float | None
    misses_upper: float | None
    alarms: float | None
    alarms_upper: float | None


class ShownChange(Struct, kw_only=True):
    """How a scope came to be steered; an empty scope stands for new scopes of the tenant."""

    at: float
    tenant: str
    scope: str
    strictness: float
    off: bool
    reason: str


class ShownCost(Struct, kw_only=True):
    """What evidence has asked of models at the operator's cost, in dollars, since the report begins and today (UTC)."""

    requests: int
    cost_usd: float
    today_usd: float
    most_per_day_usd: float


class ShownFeedback(Struct, kw_only=True):
    """How often people have rated answers, and how often they gave a better one."""

    up: int
    down: int
    better: int


class EvidenceReport(Struct, kw_only=True):
    """How often cheap answers were right, by lever, and what follows.

    `near_misses.estimate`: of the stored answers that were not served, how many said the same as the model.
    `small` and `large`: how often the other model said the same. `cost` is null in the report of one tenant: it is the
    operator's, and not kept by tenant.
    """

    object: Literal["evidence"] = "evidence"
    judges_now: bool
    tenant: str | None
    since: float
    semantic: ShownSemantic
    near_misses: ShownRate
    small: ShownRate
    large: ShownRate
    checks: list[ShownCheck]
    judges: list[ShownJudge]
    changes: list[ShownChange]
    cost: ShownCost | None
    feedback: ShownFeedback


def seconds(duration: str) -> float | None:
    """Return the seconds of a duration such as "7d"; None if it is none, which `DURATION` then says."""
    found = re.fullmatch(r"([0-9]{1,5})([mhdw])", duration)
    return float(found[1]) * _UNITS[found[2]] if found else None
