"""The two simulated models: a fast weak one and a slow strong one."""

from typing import Literal, Self

from msgspec import Struct
from msgspec.structs import replace

Strength = Literal["weak", "strong"]


class Profile(Struct, frozen=True):
    """One simulated model: its name on the wire, its speed, and the quality of its answers."""

    name: str
    model: str
    ttft_s: float
    tokens_per_s: float  # 0: no pacing, all tokens at once
    jitter: float = 0.1  # a fraction of ttft_s and of the time of a token, 0 to 1
    strength: Strength = "strong"
    stall_share: float = 0.0  # of calls that stay silent for `stall_s` before they begin; two of one question differ
    stall_s: tuple[float, float] = (4.0, 20.0)  # from, to

    def at(self, speed: float) -> Self:
        """Return a profile that is so many times as fast, its stalls too."""
        begin, end = self.stall_s
        stall_s = begin / speed, end / speed
        return replace(self, ttft_s=self.ttft_s / speed, tokens_per_s=self.tokens_per_s * speed, stall_s=stall_s)


SMALL = Profile("small", "small-fast-model", ttft_s=0.15, tokens_per_s=80, strength="weak")
LARGE = Profile("large", "large-strong-model", ttft_s=0.6, tokens_per_s=35, strength="strong")

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (SMALL, LARGE)}
