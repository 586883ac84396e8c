"""What all batches together may cost in a UTC day."""

from decimal import Decimal

from millrace.ports import Clock
from millrace.pricing import ZERO

DAY_S = 86_400
SPENT = "batch.dollars_per_day: no more is left until 0:00 UTC"  # without figures, which are of all tenants together


class Budget:
    """Dollars of a day; None: without a bound. What a request is likely to cost is reserved until it is known."""

    def __init__(self, dollars_per_day: Decimal | None, wall: Clock) -> None:
        self._limit = dollars_per_day
        self._wall = wall
        self._day = self.day
        self._spent = ZERO
        self._reserved = ZERO

    @property
    def day(self) -> float:
        """When the UTC day began, in Unix seconds."""
        return self._wall() // DAY_S * DAY_S

    def begin(self, spent: Decimal) -> None:
        """Take over what was spent today before this process, which has spent nothing yet."""
        self._advance()
        self._spent = spent

    def why_not(self, likely: Decimal = ZERO) -> str:
        """Return why nothing of so many dollars can be paid now; empty if it can."""
        self._advance()
        if self._limit is None or (self._spent < self._limit and self._taken + likely <= self._limit):
            return ""
        return SPENT

    def never_pays(self, likely: Decimal) -> bool:
        """Whether so much is more than a whole day has."""
        return self._limit is not None and likely > self._limit

    def reserve(self, likely: Decimal) -> bool:
        """Reserve dollars; False if there are not so many left."""
        if self.why_not(likely):
            return False
        self._reserved += likely
        return True

    def hold(self, likely: Decimal) -> None:
        """Reserve dollars that somebody will be paid in any case, though there may not be so many left."""
        self._reserved += likely

    def settle(self, likely: Decimal, cost: Decimal) -> None:
        """Replace what was reserved by what it has cost."""
        self._advance()
        self._reserved -= likely
        self._spent += cost

    @property
    def _taken(self) -> Decimal:
        return self._spent + self._reserved

    def _advance(self) -> None:
        if self.day > self._day:
            self._day, self._spent = self.day, ZERO
