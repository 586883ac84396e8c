"""The prior: a prompt's length, until there are labels that say more. Over-long prompts go to the large model at once.

Length is the only feature that carried over between data sets when measured on prompts alone, and it is a weak one. So
all other prompts are left to the cascade, whose checks look at the answer instead.
"""

from dataclasses import dataclass

from millrace.types import Strategy


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a request should be led, the score from 0 (surely easy) to 1 (surely hard), and why, in words."""

    strategy: Strategy
    score: float
    reason: str


def judge(input_tokens: int, hard_above: int) -> Judgement:
    """Judge by the length of the prompt as it will be sent, in tokens."""
    score = min(1.0, input_tokens / (2 * hard_above))
    if input_tokens > hard_above:
        return Judgement(Strategy.LARGE, score, f"hard: {input_tokens} tokens, over {hard_above}")
    return Judgement(Strategy.CASCADE, score, f"unsure: {input_tokens} tokens say little; small first")
