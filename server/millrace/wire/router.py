"""The JSON document of `GET /v1/router`, which `millrace router show --json` prints too. Times are Unix seconds.

A number that is not known yet is null. All bounds are of 95 % each.
"""

from typing import Literal

from msgspec import Struct


class ShownLabels(Struct, kw_only=True):
    """The labels of one source, and for how many they count: a check's verdict counts for less than one."""

    source: Literal["shadow", "check", "feedback"]
    labels: int
    counted: float
    since: float | None
    last: float | None


class ShownOutlook(Struct, kw_only=True):
    """What comes of asking the large model first for a share of requests, those with the highest scores.

    `quality` is how many answers are as good as the large model's, as judges saw it. `saved` is the part of the large
    model's price that is saved.
    """

    large_share: float
    quality: float
    lower: float
    upper: float
    saved: float | None


class ShownPlace(Struct, kw_only=True):
    """One model name that is asked for: how its promise is kept, and what other shares would bring."""

    model: str
    pairs: int
    kept: str
    outlook: list[ShownOutlook]


class ShownSnapshot(Struct, kw_only=True):
    """A state that is kept. One that is not `readable` is damaged, or another version of Millrace wrote it."""

    number: int
    saved_at: float
    labels: int
    readable: bool
    note: str


class ShownTenant(Struct, kw_only=True):
    """What the router has learned of one tenant, as it was kept last.

    `by_length`: fewer than `needed` labels were counted, so the length of a prompt says more than its words.
    `saved`: the part of the large model's price that a request saves if the small model is asked first.
    """

    tenant: str
    frozen: bool
    labels: int
    needed: int
    by_length: bool
    sources: list[ShownLabels]
    saved: float | None
    models: list[ShownPlace]
    snapshots: list[ShownSnapshot]


class RouterReport(Struct, kw_only=True):
    """What the router has learned. `learns_now`: the configuration lets it."""

    object: Literal["router"] = "router"
    learns_now: bool
    tenant: str | None
    tenants: list[ShownTenant]
