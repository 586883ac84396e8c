"""The story of a request: what each stage of the funnel decided of it, and why, without a word of its text.

It stands in the ledger, so that a request can be explained, and decided again under other settings, once it has ended.
"""

from dataclasses import dataclass

from millrace.types.model import Tier
from millrace.types.request import CacheMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A stored question near to the one that was asked, as the semantic cache weighed the two."""

    entry_id: str
    similarity: float  # cosine
    log_odds: float  # that the stored answer answers the question
    is_off: bool = False  # its scope served nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """What both caches were asked, by digests: they tell which requests are the same, and nothing else."""

    mode: CacheMode
    key: str  # of the exact cache: hexadecimal, its first 8 bytes
    scope: str = ""  # of the semantic cache, the same; empty: the request is not for it
    entry_id: str = ""  # that the semantic cache has, or would have, for the question
    input_tokens: int = 0  # of the prompt once it is trimmed, as counted here


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the router made of a prompt."""

    tier: Tier  # that it asked first
    score: float  # p_large - p_small
    small: float | None = None  # p_small: how likely the small model's answer is right, as far as was learned
    large: float | None = None  # p_large; None, both: of an earlier version
    threshold: float | None  # score from which on the large model was asked first; None: no score was enough
    labels: int  # that the score was learned from
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the checks said of one whole answer."""

    tier: Tier  # of the model that gave it
    check: str | None  # that it failed; None: it passed all
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What each stage decided. What a stage did not come to is empty."""

    looked_up: LookedUp | None = None  # None: the caches were not asked, or the row is of an earlier version
    age_s: float | None = None  # of the stored answer that was served
    needed: float | None = None  # log odds that a hit of the semantic cache needed; None: nothing was weighed
    near: tuple[Near, ...] = ()  # the likeliest first
    hit: str = ""  # the entry of the semantic cache that was served
    scores: Scores | None = None
    route: str = ""  # why the model was asked that was asked first; holds nothing that a client wrote
    judgements: tuple[Judgement, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()  # models that did not answer, each with the code of its error


NO_STORY = Story()
