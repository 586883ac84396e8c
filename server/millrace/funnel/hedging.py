"""When a second call is started because the first one is silent: after the model's running p95 TTFT, within a budget.

The trigger, the cancelled loser and the bound on the share of calls follow Dean and Barroso, "The Tail at Scale"
(2013). A hedge helps against a call that is stuck. It harms where everything is slow, so there are none then.
"""

from collections.abc import Iterable

from msgspec import Struct

from millrace.funnel.ttft import Ttft
from millrace.ports import Clock
from millrace.types import STANDARD_TIERS, Request, Tier

LEAST_WAIT_S = 0.25  # before a hedge: below it nobody notices, and a busy process looks like a stuck provider
BURST = 10.0  # hedges that are saved up at most
P50, P95 = 0.5, 0.95


class HedgeReport(Struct, frozen=True, kw_only=True):
    """What became of hedges since the start of the process."""

    made: int
    won: int  # by a call that was started as a hedge
    refused: int  # for lack of budget
    off: int  # because the models were slow
    is_off: bool  # now


class Hedging:
    """How soon the models begin to answer, and whether one more call may be started."""

    def __init__(self, clock: Clock, share: float = 0.0) -> None:
        """`share`: of requests that may be hedged without being asked for it. 0: none."""
        self._clock = clock
        self._share = share
        self._saved = 0.0  # hedges
        self._ttft = {tier: Ttft() for tier in Tier}
        self._made = self._won = self._refused = self._off = 0

    def renew(self, share: float, changed: Iterable[Tier]) -> None:
        """Hedge such a share from now on. How soon a tier begins is learned anew if its model has changed."""
        self._share = share
        self._ttft |= {tier: Ttft() for tier in changed}

    def opened(self, request: Request, tier: Tier) -> "FirstDelta":
        """Take the time of a call that is opened now."""
        counts = not request.asked_again and request.prompt.service_tier in STANDARD_TIERS
        return FirstDelta(self._clock, self._ttft[tier] if counts else None)

    def wait_s(self, request: Request) -> float | None:
        """Return how long the small model may be silent before a request is hedged; None: it is not hedged.

        None too while too few calls are known, or if no budget is set. Each request adds its share to the budget.
        """
        if not self._share or not may_be_hedged(request):
            return None
        self._saved = min(self._saved + self._share, BURST)
        return self.trigger_s

    @property
    def trigger_s(self) -> float | None:
        """How long the small model may be silent: its running p95 TTFT; None while too few calls are known."""
        p95 = self._ttft[Tier.SMALL].quantile(P95)
        return None if p95 is None else max(p95, LEAST_WAIT_S)

    def grants(self, *, asked_for: bool) -> bool:
        """Whether one more call may be started now. One that a client has asked for is not charged to the budget."""
        if self.is_off:
            self._off += 1
            return False
        if not asked_for and self._saved < 1:
            self._refused += 1
            return False
        self._saved -= 0 if asked_for else 1
        self._made += 1
        return True

    def note_won(self) -> None:
        """Count a hedge that has won."""
        self._won += 1

    @property
    def is_off(self) -> bool:
        """Whether both models are slow: then more calls would make them slower.

        The small one alone decides where the large one is not called enough to tell.
        """
        now = self._clock()
        small, large = (self._ttft[tier].is_slow(now) for tier in Tier)
        return small is True and large is not False

    def report(self) -> HedgeReport:
        """Return what became of hedges."""
        return HedgeReport(made=self._made, won=self._won, refused=self._refused, off=self._off, is_off=self.is_off)

    def ttft_ms(self, tier: Tier) -> tuple[float | None, float | None]:
        """Return a model's running p50 and p95 TTFT in milliseconds; None while too few calls are known."""
        p50, p95 = (self._ttft[tier].quantile(share) for share in (P50, P95))
        return (None if p50 is None else p50 * 1000), (None if p95 is None else p95 * 1000)


class FirstDelta:
    """Waits for the first delta of one call."""

    __slots__ = ("_clock", "_opened_at", "_ttft")

    def __init__(self, clock: Clock, ttft: Ttft | None) -> None:
        """`ttft`: where it is counted, if it is."""
        self._clock = clock
        self._ttft = ttft
        self._opened_at = clock()

    def came(self) -> None:
        """Count the time that it has taken."""
        if self._ttft is not None:
            now = self._clock()
            self._ttft.add(now, now - self._opened_at)
            self._ttft = None

    def left(self) -> None:
        """Note that the call has ended; if nothing has come, it was left, or has failed."""
        if self._ttft is not None:
            now = self._clock()
            self._ttft.add_silent(now, now - self._opened_at)
            self._ttft = None


def may_be_hedged(request: Request) -> bool:
    """Whether two calls may run for a request at once.

    Not with tools, which act; with `max_cost`, since each call must fit what the one before has left; with sealed
    blocks in the history, which may bind it to a deployment; in a service tier that is slow on purpose.
    """
    prompt = request.prompt
    return not (
        prompt.tools
        or request.max_cost is not None
        or request.asked_again
        or prompt.service_tier not in STANDARD_TIERS
        or any(message.sealed for message in prompt.messages)
    )
