"""What the router says of a request, what it learns from, and how its state is kept."""

from enum import StrEnum

from msgspec import Struct

from millrace.types.model import Tier


class Advice(Struct, frozen=True, kw_only=True, gc=False):
    """Which model the router would ask first, and why."""

    tier: Tier
    reason: str  # in one line; holds nothing that a client wrote
    escalates: bool = True  # whether any check may take a small answer back, and not the hard ones alone
    shown: str = ""  # what clients are told beside it; may repeat words of the question
    score: float | None = None  # the expected gain of the large model: p_large - p_small; None: nothing was scored
    small: float | None = None  # p_small
    large: float | None = None  # p_large
    threshold: float | None = None  # gain from which on the large model is asked first
    labels: int = 0  # that the score was learned from
    features: bytes = b""  # of the prompt, packed; empty: nothing can be learned from it
    sketch: bytes = b""  # of the same: a few sums, from which no word can be read


class LabelSource(StrEnum):
    """Who says that an answer was right or wrong."""

    SHADOW = "shadow"  # both models answered, and a judge compared them
    CHECK = "check"  # the checks of an answer
    FEEDBACK = "feedback"  # a person


class Label(Struct, frozen=True, kw_only=True, gc=False):
    """How likely it is that the models' answers to a prompt were right: from 0 to 1. None: not known."""

    small: float | None
    large: float | None
    weight: float  # how many labels it counts for
    source: LabelSource


class StateVersion(Struct, frozen=True, gc=False):
    """Which state of a tenant is kept: its number, and how often what is kept under it was replaced."""

    number: int
    revision: int


class KeptState(Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of one tenant's router."""

    tenant: str
    version: StateVersion
    saved_at: float  # Unix seconds
    labels: int  # that were learned
    state: bytes | None  # None: it is damaged, or another version of Millrace wrote it
    note: str = ""  # why it was kept, if not because something was learned
