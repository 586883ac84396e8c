"""The mix of a workload: a file that users may replace by their own."""

import math
import tomllib
from pathlib import Path
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Kinds(_Part, frozen=True, kw_only=True):
    """Which share of the requests is of which kind."""

    repeated: Share
    reworded: Share
    agent: Share
    retrieved: Share
    fresh: Share


class Fresh(_Part, frozen=True, kw_only=True):
    """Questions that nobody has asked before."""

    hard: Share
    sums: Share


class Small(_Part, frozen=True, kw_only=True):
    """How the small model fails at what is hard."""

    unsure: Share
    refused: Share
    empty: Share
    hedged: Share
    wrong: Share


class Answers(_Part, frozen=True, kw_only=True):
    """How long answers are, in tokens."""

    tokens: Count
    spread: Annotated[float, Meta(ge=0)]
    most: Count
    brief: Share


class Agent(_Part, frozen=True, kw_only=True):
    """Sessions of agents."""

    turns: Count
    system_tokens: Count
    result_tokens: Count
    hard: Share
    chained: Share


class Retrieved(_Part, frozen=True, kw_only=True):
    """Questions with long contexts."""

    chunks: Count
    tokens: Count
    deeper: Share
    budget: Count


class Router(_Part, frozen=True, kw_only=True):
    """What routing promises."""

    keep_quality: Share


class Stalls(_Part, frozen=True, kw_only=True):
    """Calls that stay silent."""

    share: Share


class Price(_Part, frozen=True, kw_only=True):
    """Dollars per million tokens."""

    input: str
    cached_input: str
    output: str


class Prices(_Part, frozen=True, kw_only=True):
    """What the models cost."""

    small: Price
    large: Price


class Mix(_Part, frozen=True, kw_only=True):
    """The whole file."""

    requests: Count
    seed: int
    speed: Positive
    per_second: Positive
    questions: str
    kinds: Kinds
    fresh: Fresh
    small: Small
    answers: Answers
    agent: Agent
    retrieved: Retrieved
    router: Router
    stalls: Stalls
    prices: Prices

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. Raises `ValueError` with the key that is wrong, and `OSError`."""
        try:
            mix = msgspec.convert(tomllib.loads(path.read_text("utf-8")), cls)
        except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
        for name, part in (("kinds", mix.kinds), ("small", mix.small)):
            if not math.isclose(total := sum(msgspec.structs.astuple(part)), 1, abs_tol=1e-6):
                raise ValueError(f"{path}: [{name}] adds up to {total:g}; it must be 1")
        return msgspec.structs.replace(mix, questions=str(path.parent / mix.questions))
