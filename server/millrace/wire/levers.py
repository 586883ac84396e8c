"""The JSON document of `GET /v1/levers`, which `millrace levers --json` prints too. Times are Unix seconds.

`baseline_usd - all saved_usd + all cost_usd of waste = cost_usd`, exactly: all are whole nanodollars.
"""

from typing import Literal

from msgspec import Struct

BY = ("tag", "user", "key", "model", "day", "tenant")


class ShownSaving(Struct, kw_only=True):
    """What one lever took off. Negative: it cost more than it spared.

    `saved_ms` is how much sooner the answers came than the large model's of that size in the same time (a median), for
    the caches, joins and routing: an estimate, and null where nothing is known. `requests` are those that it did
    something for.
    """

    lever: str
    requests: int
    saved_usd: float
    share: float  # of the baseline
    saved_ms: float | None = None
    estimated: bool = False  # `saved_usd` is what is not in the sum, or not known


class ShownWaste(Struct, kw_only=True):
    """What was paid for nothing, or beside the answers."""

    kind: str
    requests: int
    cost_usd: float
    share: float  # of the baseline


class ShownBill(Struct, kw_only=True):
    """The bill of some requests: what they would have cost untrimmed on the large model, and why they cost less.

    `requests` are those of clients; what evidence has asked is in `waste` alone. `unknown` counts those of an earlier
    version, which do not tell the large model's price: they are compared with that of today, if it is known.
    """

    name: str  # of the group; empty for all
    requests: int
    answered: int
    unknown: int
    baseline_usd: float
    cost_usd: float
    saved_usd: float  # of all levers, less all waste
    share: float  # of the baseline
    savings: list[ShownSaving]
    waste: list[ShownWaste]


class LeversReport(Struct, kw_only=True):
    """What each lever took off the bill since then. `groups` are by what was asked for, the largest baseline first."""

    object: Literal["levers"] = "levers"
    since: float
    until: float
    tenant: str | None
    by: str | None
    total: ShownBill
    groups: list[ShownBill]
