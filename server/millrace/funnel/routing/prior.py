"""Routing by the length of the prompt. Over-long prompts go to the large model at once, all others to the cascade.

Of the features that were measured on prompts alone, length is the only one that carried over between data sets, and it
is a weak one. So all other prompts are left to the cascade, which judges the answer instead.
"""

from dataclasses import dataclass

from millrace.types import Strategy


@dataclass(frozen=True, slots=True)
class Judgement:
    """The strategy for a request, its score from 0 (easy) to 1 (hard), and the reason as text."""

    strategy: Strategy
    score: float
    reason: str


def judge(input_tokens: int, hard_above: int) -> Judgement:
    """Judge by the tokens of the trimmed prompt."""
    score = min(1.0, input_tokens / (2 * hard_above))
    if input_tokens > hard_above:
        return Judgement(Strategy.LARGE, score, f"hard: {input_tokens} tokens, over {hard_above}")
    return Judgement(Strategy.CASCADE, score, f"unsure: {input_tokens} tokens say little; small first")
