"""The story of a request: what each stage of the funnel decided of it, and why, without a word of its text.

It stands in the ledger, so that a request can be explained, and decided again under other settings, once it has ended.
"""

from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from millrace.types.model import Tier
from millrace.types.request import CacheMode

MOST_MESSAGES = 32  # of a request whose sizes are kept one by one


class Near(Struct, frozen=True, kw_only=True, gc=False):
    """A stored question near to the one that was asked, as the semantic cache weighed the two."""

    entry_id: str
    similarity: float  # cosine
    log_odds: float  # that the stored answer answers the question
    is_off: bool = False  # its scope served nothing


class LookedUp(Struct, frozen=True, kw_only=True, gc=False):
    """What both caches were asked, by digests: they tell which requests are the same, and nothing else."""

    mode: CacheMode
    key: str  # of the exact cache: hexadecimal, its first 8 bytes
    scope: str = ""  # of the semantic cache, the same; empty: the request is not for it
    entry_id: str = ""  # that the semantic cache has, or would have, for the question
    input_tokens: int = 0  # of the prompt once it is trimmed, as counted here


class Scores(Struct, frozen=True, kw_only=True, gc=False):
    """What the router made of a prompt."""

    tier: Tier  # that it asked first
    score: float  # p_large - p_small
    small: float | None = None  # p_small: how likely the small model's answer is right, as far as was learned
    large: float | None = None  # p_large; None, both: of an earlier version
    threshold: float | None  # score from which on the large model was asked first; None: none was enough, or any
    labels: int  # that the score was learned from
    reason: str
    sketch: bytes = b""  # of the prompt: a few sums, from which no word can be read; empty: of an earlier version


class Judgement(Struct, frozen=True, kw_only=True, gc=False):
    """What the checks said of one whole answer."""

    tier: Tier  # of the model that gave it
    check: str | None  # that it failed; None: it passed all
    reason: str = ""


class Story(Struct, frozen=True, kw_only=True, gc=False):
    """What each stage decided. What a stage did not come to is empty."""

    looked_up: LookedUp | None = None  # None: the caches were not asked, or the row is of an earlier version
    age_s: float | None = None  # of the stored answer that was served
    needed: float | None = None  # log odds that a hit of the semantic cache needed; None: nothing was weighed
    near: tuple[Near, ...] = ()  # the likeliest first
    hit: str = ""  # the entry of the semantic cache that was served
    missed: str = ""  # why the semantic cache served nothing, without a word of a question; empty: it was not asked
    scores: Scores | None = None
    route: str = ""  # why the model was asked that was asked first; holds nothing that a client wrote
    judgements: tuple[Judgement, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()  # models that did not answer, each with the code of its error


NO_STORY = Story()


class Shape(Struct, frozen=True, kw_only=True, gc=False):
    """What a request looked like, as it was sent on after trimming: how much of what, and its options. No text.

    Another request of the same shape can be made of it (`millrace explain --redacted-repro`). Sizes are characters.
    """

    model: str  # as requested
    delivery: str
    cache: str  # its mode
    messages: tuple[tuple[str, int], ...]  # role and size; of more than `MOST_MESSAGES` the last ones
    earlier: int = 0  # messages before those
    earlier_size: int = 0
    media: int = 0  # parts of `messages` that are not text
    context: int = 0  # size of the chunks
    tools: tuple[int, ...] = ()  # the size of each: name, description and schema
    tool_choice: str = ""  # its mode
    format: str = ""  # its kind
    format_size: int = 0
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str = ""
    verbosity: str = ""
    parallel_tool_calls: bool | None = None
    service_tier: str = ""
    store: bool | None = None
    concise: bool = False
    context_budget: int | None = None
    max_cost: str = ""  # dollars
    checks: tuple[str, ...] | None = None  # names
    cut: tuple[str, ...] = ()  # what trimming has cut of: history, context

    @property
    def given(self) -> dict[str, Any]:
        """What is not as usual, by name."""
        by_name = {name: getattr(self, name) for name in _USUAL}
        return {name: value for name, value in by_name.items() if value != _USUAL[name]}


_USUAL = {one.name: one.default for one in fields(Shape)}
