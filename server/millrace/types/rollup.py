"""Rollups: what requests were, added up by time, so that many cost nothing to look at."""

from enum import IntEnum, StrEnum
from typing import NamedTuple

from msgspec import Struct


class Span(IntEnum):
    """How long the parts are into which time is cut, in seconds of UTC."""

    MINUTE = 60
    HOUR = 3600
    DAY = 86_400


KEPT_S = {Span.MINUTE: 2 * Span.DAY, Span.HOUR: 60 * Span.DAY, Span.DAY: 400 * Span.DAY}  # what may be asked for
LATE_S = Span.HOUR  # by which who asks may be late


def forgotten_before(span: Span, now: float) -> float:
    """Return the time before which no cell is kept (Unix seconds): all are that a window can begin with."""
    return now - KEPT_S[span] - LATE_S - span


class Grouping(StrEnum):
    """What the requests of a cell have in common, beside their model and their time."""

    TAG = "tag"  # tenant and tag
    TENANT = "tenant"  # tenant; its tag is empty
    ALL = "all"  # nothing; its tenant and its tag are empty


class CellName(NamedTuple):
    """Which requests a cell adds up. A tuple, since many are made."""

    grouping: Grouping
    span: Span
    at: int  # when its time begins, in Unix seconds
    tenant: str
    model: str
    tag: str


class Cell(Struct, frozen=True, kw_only=True, gc=False):
    """What was added up. The numbers beside `sums` are in it too; they can be added without reading it."""

    name: CellName
    requests: int
    errors: int
    cost: int  # nanodollars
    baseline: int  # nanodollars: what they would have cost on the large model
    sums: bytes


class Window(Struct, frozen=True, kw_only=True, gc=False):
    """Which cells are asked for. What is None selects nothing by itself."""

    span: Span
    since: int  # Unix seconds; a beginning of a span
    until: int
    tenant: str | None  # None: of all
    tag: str | None = None
    model: str | None = None


class Part(Struct, frozen=True, gc=False):
    """Of one tag or tenant: a part of what a window has."""

    name: str
    requests: int
    errors: int
    cost: int  # nanodollars
    baseline: int
