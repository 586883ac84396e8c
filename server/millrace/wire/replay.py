"""The JSON document that `millrace replay --json` prints. Times are Unix seconds."""

from typing import Literal

from msgspec import Struct


class ShownSetting(Struct, kw_only=True):
    """A setting, as it is and as it was tried."""

    path: str
    now: str
    tried: str


class ShownFigures(Struct, kw_only=True):
    """What became of the requests of a window, or would have.

    `low_usd` and `high_usd` are bounds of 95 % of `cost_usd`; `estimated_usd` is the part of it that was estimated.
    `large_share` is of those that a model was asked for. `wrong_hits` are expected, by how sure each hit was.
    `quality` is the share of answers that are as good as the large model's, as far as judges told; null: not known.
    """

    cost_usd: float
    low_usd: float
    high_usd: float
    estimated_usd: float
    exact: int
    semantic: int
    joined: int
    hit_rate: float
    small_first: int
    large_first: int
    large_share: float
    escalated: float
    wrong_hits: float
    quality: float | None


class ReplayReport(Struct, kw_only=True):
    """What other settings would have done, beside what happened.

    `otherwise` counts requests that were decided otherwise, and `as_they_were` those that cannot be decided again: they
    failed, are of an earlier version, are for embeddings, or evidence asked them.
    """

    object: Literal["replay"] = "replay"
    since: float
    until: float
    tenant: str | None
    settings: list[ShownSetting]
    requests: int
    otherwise: int
    as_they_were: int
    happened: ShownFigures
    replayed: ShownFigures
    notes: list[str]
