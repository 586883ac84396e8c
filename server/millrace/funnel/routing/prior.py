"""The prior: a prompt's length, until labels have come that say more. Over-long prompts go to the large model at once.

Length is the only feature that carried over between data sets when measured on prompts alone; it is a weak one, so
everything else is "unsure" and left to the cascade, whose checks look at the answer instead.
"""

from dataclasses import dataclass
from enum import StrEnum

from millrace.types import Strategy


class Band(StrEnum):
    """How a request is thought to be."""

    EASY = "easy"
    UNSURE = "unsure"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The band, the score from 0 (surely easy) to 1 (surely hard), and why, in words."""

    band: Band
    score: float
    reason: str

    @property
    def strategy(self) -> Strategy:
        """How a request so judged should be led."""
        return Strategy.LARGE if self.band is Band.HARD else Strategy.CASCADE


def judge(input_tokens: int, hard_above: int) -> Judgement:
    """Judge by the length of the prompt as it will be sent, in tokens."""
    score = min(1.0, input_tokens / (2 * hard_above))
    if input_tokens > hard_above:
        return Judgement(Band.HARD, score, f"hard: {input_tokens} tokens, over {hard_above}")
    return Judgement(Band.UNSURE, score, f"unsure: {input_tokens} tokens say little; small first")
