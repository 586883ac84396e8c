"""What the provider of the benchmark sends: how many tokens, how fast, after how long."""

from dataclasses import dataclass

MARK = "zq"  # every token has it once, and nothing else that is sent
SYLLABLES = [one + two for one in "bdfgklmnprstvwz" for two in "aeiou"]
WORDS = [f" {one}{MARK}{two}" for one in SYLLABLES[:20] for two in SYLLABLES[-20:]]  # tokens, which come in turn


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens of every answer, tokens per second (0: all at once), and seconds to the first.

    Of those that come at once each may have some letters more.
    """

    tokens: int
    rate: float = 0.0
    ttft_s: float = 0.0
    letters: int = 0

    @property
    def lasts_s(self) -> float:
        """Seconds from the request to the last token."""
        return self.ttft_s + (self.tokens / self.rate if self.rate else 0.0)
