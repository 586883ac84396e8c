"""What the router says of a request, and what it learns from."""

from dataclasses import dataclass
from enum import StrEnum

from millrace.types.model import Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Which model the router would ask first, and why."""

    tier: Tier
    reason: str  # in one line; holds nothing that a client wrote
    shown: str = ""  # what clients are told beside it; may repeat words of the question
    score: float | None = None  # the expected gain of the large model: p_large - p_small; None: the prior decided
    threshold: float | None = None  # gain from which on the large model is asked first
    labels: int = 0  # that the score was learned from
    features: bytes = b""  # of the prompt, packed; empty: nothing can be learned from it


class LabelSource(StrEnum):
    """Who says that an answer was right or wrong."""

    SHADOW = "shadow"  # both models answered, and a judge compared them
    CHECK = "check"  # the checks of an answer
    FEEDBACK = "feedback"  # a person


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Whether the models' answers to a prompt were right: from 0, wrong, to 1. None: not known."""

    tenant: str
    features: bytes  # of the prompt, packed
    small: float | None
    large: float | None
    weight: float  # how many requests it stands for
    source: LabelSource
