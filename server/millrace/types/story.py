"""The story of a request: what each stage of the funnel decided of it, and why, without a word of its text.

It stands in the ledger, so that a request can be explained, and decided again under other settings, once it has ended.
"""

from dataclasses import dataclass

from millrace.types.model import Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A stored question near to the one that was asked, as the semantic cache weighed the two."""

    entry_id: str
    similarity: float  # cosine
    log_odds: float  # that the stored answer answers the question
    is_off: bool = False  # its scope served nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the router made of a prompt."""

    tier: Tier  # that it asked first
    score: float  # p_large - p_small
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

    near: tuple[Near, ...] = ()  # the likeliest first
    hit: str = ""  # the entry of the semantic cache that was served
    scores: Scores | None = None
    route: str = ""  # why the model was asked that was asked first; holds nothing that a client wrote
    judgements: tuple[Judgement, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()  # models that did not answer, each with the code of its error


NO_STORY = Story()
