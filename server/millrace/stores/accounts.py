"""What one key, tenant, end user or tag has used and reserved, and whether there is room for one more request."""

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from millrace.errors import MillraceError
from millrace.pricing import NANODOLLAR, ZERO
from millrace.principal import UNLIMITED, Limits
from millrace.types.budget import AccountName, Period, Rest, Spent

MINUTE_S = 60
DAY_S = 86_400
RETRY_MS = 1000  # when the limit depends on running requests, whose end is unknown
_NO_BOUND = Decimal("Infinity")
_UNTIL = {Period.DAY: "until 0:00 UTC", Period.MONTH: "until the 1st, 0:00 UTC"}


def midnight(wall: float) -> float:
    """Return the beginning of the UTC day, in Unix seconds."""
    return wall // DAY_S * DAY_S


class Today(Struct, frozen=True):
    """The UTC day and month that it is, in Unix seconds."""

    day: float
    next_day: float
    month: float
    next_month: float

    @classmethod
    def at(cls, wall: float) -> "Today":
        """Return the day and the month of a time."""
        month = datetime.fromtimestamp(wall, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        after = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
        day = midnight(wall)
        return cls(day, day + DAY_S, month.timestamp(), after.timestamp())

    def begins(self, period: Period) -> float:
        """Return when the period that it is in has begun."""
        return self.day if period is Period.DAY else self.month

    def ends(self, period: Period) -> float:
        """Return when the period that it is in ends."""
        return self.next_day if period is Period.DAY else self.next_month


class Window:
    """What was used within the last minute, per second: at most 62 numbers under any load."""

    def __init__(self) -> None:
        self.used = 0
        self._seconds: deque[tuple[int, int]] = deque()  # (second of the clock, amount)

    def add(self, now: float, amount: int) -> None:
        """Count an amount as used now."""
        self.used += amount
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            amount += self._seconds.pop()[1]
        self._seconds.append((second, amount))

    def expire(self, now: float) -> None:
        """Subtract what was used more than a minute ago."""
        while self._seconds and self._seconds[0][0] + 1 + MINUTE_S <= now:
            self.used -= self._seconds.popleft()[1]

    def wait_ms(self, now: float, excess: int) -> int:
        """Return milliseconds until `excess` has left the window; `RETRY_MS` if the window holds less than that."""
        for second, amount in self._seconds:
            excess -= amount
            if excess <= 0:
                return int((second + 1 + MINUTE_S - now) * 1000) + 1
        return RETRY_MS

    def reset_s(self, now: float) -> float:
        """Return seconds until all that was used has left the window."""
        return self._seconds[-1][0] + 1 + MINUTE_S - now if self._seconds else 0.0


class Elsewhere(Struct, frozen=True, kw_only=True):
    """What the other replicas have of an account, and how far this one may go without asking them."""

    day: Decimal = ZERO  # dollars that they have spent
    month: Decimal = ZERO
    reserved: Decimal = ZERO  # dollars that are theirs, but not spent
    requests: int = 0  # of the last minute
    tokens: int = 0  # the same, and those that are reserved
    in_flight: int = 0
    granted: Decimal | None = None  # all dollars that this one may settle and reserve, of all time; None: no bound
    is_alone: bool = False  # they cannot be asked: it is a share of the limits
    own_day: Decimal = ZERO  # dollars that all processes on this data_dir had spent, when this one had settled `own_at`
    own_month: Decimal = ZERO
    own_at: Decimal = ZERO

    def on(self, today: Today, before: Today) -> "Elsewhere":
        """Return the same on a later day."""
        found = replace(self, granted=None) if self.is_alone else self  # a share is of one day
        if today.day > before.day:
            found = replace(found, day=ZERO, own_day=ZERO)
        if today.month > before.month:
            found = replace(found, month=ZERO, own_month=ZERO)
        return found


NOWHERE = Elsewhere()  # no other replica is known to have any


class Account:
    """Dollars of the UTC day and month, tokens and requests of the last minute, and what running requests reserve."""

    def __init__(self, name: AccountName, today: Today) -> None:
        self.name = name
        self.limits = UNLIMITED  # of the last request that held it
        self.requests = Window()
        self.tokens = Window()
        self.in_flight = 0
        self.reserved_tokens = 0
        self.reserved_cost = ZERO
        self.spent_day = self.spent_month = ZERO
        self.is_read = False  # what was spent before it was counted here is known
        self.was_read = False  # it was known at some time
        self.told: dict[str, dict[Period, tuple[float, int]]] = {}  # by key: of which period, up to which step
        self.reached: dict[Period, tuple[float, int]] = {}  # the same, for the operator
        self.elsewhere = NOWHERE
        self.settled_cost = ZERO  # dollars that were settled here, of all time
        self.wanted = 0  # requests that are about to be admitted, with what they will reserve
        self.wanted_tokens = 0
        self.wanted_cost = ZERO
        self._today = today

    def advance(self, now: float, today: Today) -> None:
        """Drop what is older than a minute, and the dollars of an earlier day or month."""
        self.requests.expire(now)
        self.tokens.expire(now)
        if today is not self._today:
            if today.day > self._today.day:
                self.spent_day = ZERO
            if today.month > self._today.month:
                self.spent_month = ZERO
            if self.elsewhere is not NOWHERE:
                self.elsewhere = self.elsewhere.on(today, self._today)
            self._today = today

    def know(self, spent: Spent) -> None:
        """Take over what was spent, as the ledger has it."""
        self.spent_day, self.spent_month = spent.day, spent.month
        self.is_read = self.was_read = True

    def spend(self, dollars: Decimal) -> None:
        """Count dollars as spent now."""
        self.spent_day += dollars
        self.spent_month += dollars

    def budgets(self, limits: Limits) -> Iterator[tuple[Period, Decimal, Decimal]]:
        """Yield each budget in dollars: its period, what is spent of it, and the limit."""
        if limits.dollars_per_day is not None:
            yield Period.DAY, self.spent_day + self.elsewhere.day, limits.dollars_per_day
        if limits.dollars_per_month is not None:
            yield Period.MONTH, self.spent_month + self.elsewhere.month, limits.dollars_per_month

    def budgets_of(self, today: Today) -> Iterator[tuple[Period, Decimal, Decimal]]:
        """Yield each budget with the limits of the last request, as they are on a day that may have begun since."""
        for period, spent, limit in self.budgets(self.limits):
            yield period, spent if today.begins(period) == self._today.begins(period) else ZERO, limit

    def dollars_left(self, limits: Limits) -> Decimal | None:
        """Return the dollars that are neither spent nor reserved; None if there is no limit."""
        left = [limit - spent for _, spent, limit in self.budgets(limits)]
        if not left:
            return None
        return max(ZERO, min(self.room, min(left) - self.reserved_cost - self.elsewhere.reserved))

    @property
    def room(self) -> Decimal:
        """Dollars that this replica may still reserve without asking the others, as far as the budgets go."""
        granted = self.elsewhere.granted
        return _NO_BOUND if granted is None else granted - self.settled_cost - self.reserved_cost

    def check_rates(self, limits: Limits, now: float, tokens: int) -> None:
        """Raise `too_many_in_flight`, `rate_limit_exceeded`, or `budget_exceeded` if no time would help."""
        whose, elsewhere = self.name.whose, self.elsewhere
        in_flight = self.in_flight + elsewhere.in_flight
        if limits.in_flight is not None and in_flight >= limits.in_flight:
            message = f"{whose} has {in_flight} requests in flight, which is its limit; wait until one ends"
            raise MillraceError("too_many_in_flight", message, retry_after_ms=RETRY_MS)
        limit = limits.requests_per_minute
        if limit is not None and (used := self.requests.used + elsewhere.requests) >= limit:
            wait_ms = self.requests.wait_ms(now, used + 1 - limit)
            message = f"{whose} may send {limit} requests a minute; retry later"
            raise MillraceError("rate_limit_exceeded", message, retry_after_ms=wait_ms)
        limit = limits.tokens_per_minute
        used = self.tokens.used + self.reserved_tokens + elsewhere.tokens
        if limit is None or used + tokens <= limit:
            return
        if tokens > limit:  # also in the next minute
            message = (
                f"this request may use {tokens} tokens, but {whose} only {limit} a minute; lower max_output_tokens"
            )
            raise MillraceError("budget_exceeded", message)
        wait_ms = self.tokens.wait_ms(now, used + tokens - limit)
        message = f"{whose} may use {limit} tokens a minute; retry later"
        raise MillraceError("rate_limit_exceeded", message, retry_after_ms=wait_ms)

    def lacking(self, limits: Limits, likely: Decimal) -> tuple[Period, Decimal, Decimal] | None:
        """Return the budget of which too much is spent for a request; None if there is none."""
        for budget in self.budgets(limits):
            _, spent, limit = budget
            if spent >= limit or spent + likely > limit:
                return budget
        return None

    def over_budget(self, period: Period, spent: Decimal, limit: Decimal, likely: Decimal) -> MillraceError:
        """Return the error of a request for which too much of a budget is spent; it stays so until the period ends."""
        left = max(ZERO, limit - spent)
        of_it = f"${left:f} of {self.name.whose}'s ${limit:f} a {period} is left {_UNTIL[period]}"
        return MillraceError(
            "budget_exceeded", f"{of_it}, but this request may cost ${likely:f}; lower max_output_tokens"
        )

    def check_reserved(self, limits: Limits, likely: Decimal) -> None:
        """Raise `rate_limit_exceeded`, which clients retry, if what is left is reserved by requests in flight."""
        for period, spent, limit in self.budgets(limits):
            is_reserved = spent + self.reserved_cost + self.elsewhere.reserved + likely > limit
            if is_reserved or likely > self.room + NANODOLLAR:  # the replicas count in whole nanodollars
                of_it = f"what is left of {self.name.whose}'s ${limit:f} a {period}"
                message = f"{of_it} is reserved by requests in flight; retry when one ends"
                raise MillraceError("rate_limit_exceeded", message, retry_after_ms=RETRY_MS)

    def used_up(self, limits: Limits) -> MillraceError:
        """Return the error of a running request that has used all there is of a budget."""
        period, limit = min(
            ((limit - spent, period, limit) for period, spent, limit in self.budgets(limits)), key=lambda each: each[0]
        )[1:]
        message = f"{self.name.whose}'s ${limit:f} a {period} is used up {_UNTIL[period]}; raise it, or ask for less"
        return MillraceError("budget_exceeded", message)


Held = tuple[tuple[Account, Limits], ...]  # the accounts of a request, with the limits that it began with


class Sharing(Protocol):
    """Counts accounts together with other replicas, in `Account.elsewhere`."""

    def drawn(self, held: Held, cost: Decimal, tokens: int) -> AbstractAsyncContextManager[None]:
        """Have one more request, with such dollars and tokens, at hand while it is admitted."""
        ...

    def changed(self, held: Held) -> None:
        """Have the others told of what was used or reserved. Never waits."""
        ...


def has_budget(limits: Limits) -> bool:
    """Whether dollars are limited."""
    return limits.dollars_per_day is not None or limits.dollars_per_month is not None


def rest_of(held: Held) -> Rest:
    """Return what is not spent of the scarcest budget of a request."""
    budgets = [
        (limit - spent, account, period) for account, limits in held for period, spent, limit in account.budgets(limits)
    ]
    dollars, account, period = min(budgets, key=lambda each: each[0])
    return Rest(dollars, f"what is left of {account.name.whose}'s dollars a {period}")
