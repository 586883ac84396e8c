"""Limits per key, counted in this process. The ledger gives what is spent today when the process starts."""

from collections import deque
from collections.abc import Mapping
from decimal import Decimal

from millrace.errors import MillraceError
from millrace.ports import Admission, Clock
from millrace.pricing import ZERO
from millrace.principal import Limits, Principal

MINUTE_S = 60
DAY_S = 86_400
RETRY_MS = 1000  # when the limit depends on running requests, whose end is unknown


def midnight(wall: float) -> float:
    """Return the beginning of the UTC day, in Unix seconds."""
    return wall // DAY_S * DAY_S


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


class Account:
    """What one key has used and reserved: dollars of the UTC day, tokens and requests of the last minute."""

    def __init__(self, spent: Decimal, day: float) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.in_flight = 0
        self.reserved_tokens = 0
        self.reserved_cost = ZERO
        self.spent = spent
        self._day = day

    def advance(self, now: float, day: float) -> None:
        """Drop what is older than a minute, and the dollars of an earlier day."""
        self.requests.expire(now)
        self.tokens.expire(now)
        if day > self._day:
            self.spent, self._day = ZERO, day


class MemoryLimiter:
    """Accounts of all keys with limits. `spent` is dollars of today by key, from the ledger."""

    def __init__(self, clock: Clock, wall: Clock, spent: Mapping[str, Decimal]) -> None:
        self._clock = clock
        self._wall = wall
        today = midnight(wall())
        self._accounts = {key_id: Account(dollars, today) for key_id, dollars in spent.items()}

    def limits(self, principal: Principal) -> bool:
        """Whether anything is limited."""
        return principal.limits != Limits() or principal.key_id in self._accounts

    def admit(self, principal: Principal, likely_cost: Decimal, likely_tokens: int) -> Admission:
        """Reserve dollars and tokens for one request.

        Raises `too_many_in_flight`, `rate_limit_exceeded` or `budget_exceeded`, with a delay where waiting helps.
        """
        key_id, limits = principal.key_id, principal.limits
        account = self._accounts.get(key_id)
        if account is None:
            if limits == Limits():
                return _NO_RESERVATION
            account = self._accounts[key_id] = Account(ZERO, midnight(self._wall()))
        now = self.advance(account)
        _check_in_flight(account, limits)
        _check_requests(account, limits, now)
        _check_tokens(account, limits, now, likely_tokens)
        _check_dollars(account, limits, likely_cost)
        account.requests.add(now, 1)
        account.in_flight += 1
        account.reserved_tokens += likely_tokens
        account.reserved_cost += likely_cost
        return _Reservation(self, account, limits, likely_cost, likely_tokens)

    def count(self, key_id: str, cost: Decimal) -> None:
        """Count dollars that another process has spent today."""
        account = self._accounts.setdefault(key_id, Account(ZERO, midnight(self._wall())))
        self.advance(account)
        account.spent += cost

    def advance(self, account: Account) -> float:
        """Bring an account up to date; return the clock's seconds."""
        now = self._clock()
        account.advance(now, midnight(self._wall()))
        return now


class _Reservation:
    """What one request of a key with limits has reserved."""

    def __init__(self, limiter: MemoryLimiter, account: Account, limits: Limits, cost: Decimal, tokens: int) -> None:
        self._limiter = limiter
        self._account = account
        self._limit = limits.dollars_per_day
        self.limits_cost = self._limit is not None
        self._cost = cost
        self._tokens = tokens
        self._settled = False

    def reserve_more(self, cost: Decimal, tokens: int) -> Decimal:
        """Reserve more of the day's budget, as far as there is more, and as many tokens of the minute as that buys."""
        account = self._account
        self._limiter.advance(account)
        left = cost if self._limit is None else max(ZERO, self._limit - account.spent - account.reserved_cost)
        if left < cost:
            cost, tokens = left, int(tokens * left / cost)
        self._cost += cost
        self._tokens += tokens
        account.reserved_cost += cost
        account.reserved_tokens += tokens
        return cost

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Replace the reservation by the real cost and tokens. Only the first call counts."""
        if self._settled:
            return
        self._settled = True
        account = self._account
        now = self._limiter.advance(account)
        account.in_flight -= 1
        account.reserved_tokens -= self._tokens
        account.reserved_cost -= self._cost
        account.tokens.add(now, tokens)
        account.spent += cost


class _NoReservation:
    limits_cost = False

    def reserve_more(self, cost: Decimal, _tokens: int) -> Decimal:
        """Return all of it, since nothing is limited."""
        return cost

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Do nothing, since nothing was reserved."""


_NO_RESERVATION = _NoReservation()


def _check_in_flight(account: Account, limits: Limits) -> None:
    if limits.in_flight is not None and account.in_flight >= limits.in_flight:
        message = f"this key has {account.in_flight} requests in flight, which is its limit; wait until one ends"
        raise MillraceError("too_many_in_flight", message, retry_after_ms=RETRY_MS)


def _check_requests(account: Account, limits: Limits, now: float) -> None:
    limit = limits.requests_per_minute
    if limit is not None and account.requests.used >= limit:
        wait_ms = account.requests.wait_ms(now, account.requests.used + 1 - limit)
        message = f"this key may send {limit} requests a minute; retry later"
        raise MillraceError("rate_limit_exceeded", message, retry_after_ms=wait_ms)


def _check_tokens(account: Account, limits: Limits, now: float, likely: int) -> None:
    limit = limits.tokens_per_minute
    if limit is None or account.tokens.used + account.reserved_tokens + likely <= limit:
        return
    if likely > limit:  # also in the next minute
        message = f"this request may use {likely} tokens, but this key only {limit} a minute; lower max_output_tokens"
        raise MillraceError("budget_exceeded", message)
    wait_ms = account.tokens.wait_ms(now, account.tokens.used + account.reserved_tokens + likely - limit)
    message = f"this key may use {limit} tokens a minute; retry later"
    raise MillraceError("rate_limit_exceeded", message, retry_after_ms=wait_ms)


def _check_dollars(account: Account, limits: Limits, likely: Decimal) -> None:
    """Check the day's budget.

    A budget that is spent stays so until midnight UTC: `budget_exceeded`. One that is only reserved by requests in
    flight may be free again soon: `rate_limit_exceeded`, which clients retry.
    """
    limit = limits.dollars_per_day
    if limit is None:
        return
    if account.spent >= limit or account.spent + likely > limit:
        left = f"${limit - account.spent:f} of this key's ${limit:f} a day is left until 0:00 UTC"
        message = f"{left}, but this request may cost ${likely:f}; lower max_output_tokens"
        raise MillraceError("budget_exceeded", message)
    if account.spent + account.reserved_cost + likely > limit:
        message = f"what is left of this key's ${limit:f} a day is reserved by requests in flight; retry when one ends"
        raise MillraceError("rate_limit_exceeded", message, retry_after_ms=RETRY_MS)
