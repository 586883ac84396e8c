"""Limits per key, counted in this process. What is spent today is read from the ledger at the start."""

from collections import deque
from collections.abc import Mapping
from decimal import Decimal

from millrace.errors import MillraceError
from millrace.ports import Admission, Clock
from millrace.pricing import ZERO
from millrace.principal import Limits, Principal

MINUTE_S = 60
DAY_S = 86_400
RETRY_MS = 1000  # where it is running requests that are in the way: nobody knows when they end


def midnight(wall: float) -> float:
    """Return when the day of UTC began, in Unix seconds."""
    return wall // DAY_S * DAY_S


class Window:
    """What was used within the last minute, to the second: 62 numbers at most, however much goes on."""

    def __init__(self) -> None:
        self.used = 0
        self._seconds: deque[tuple[int, int]] = deque()  # which second, how much

    def add(self, now: float, amount: int) -> None:
        """Note what is used now."""
        self.used += amount
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            amount += self._seconds.pop()[1]
        self._seconds.append((second, amount))

    def forget(self, now: float) -> None:
        """Drop what was used more than a minute ago."""
        while self._seconds and self._seconds[0][0] + 1 + MINUTE_S <= now:
            self.used -= self._seconds.popleft()[1]

    def wait_ms(self, now: float, excess: int) -> int:
        """Return how long it takes until so much is forgotten; where it never is, when to look again."""
        for second, amount in self._seconds:
            excess -= amount
            if excess <= 0:
                return int((second + 1 + MINUTE_S - now) * 1000) + 1
        return RETRY_MS


class Account:
    """What one key has used and has reserved. Dollars are of one day, tokens and requests of the last minute."""

    def __init__(self, spent: Decimal, day: float) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.in_flight = 0
        self.reserved_tokens = 0
        self.reserved_cost = ZERO
        self.spent = spent
        self._day = day

    def turn_to(self, now: float, day: float) -> None:
        """Forget what is over."""
        self.requests.forget(now)
        self.tokens.forget(now)
        if day > self._day:
            self.spent, self._day = ZERO, day


class MemoryLimiter:
    """The limits of every key that has any. `spent` is dollars of today by key, as the ledger has them."""

    def __init__(self, clock: Clock, wall: Clock, spent: Mapping[str, Decimal]) -> None:
        self._clock = clock
        self._wall = wall
        today = midnight(wall())
        self._accounts = {key_id: Account(dollars, today) for key_id, dollars in spent.items()}

    def admit(self, principal: Principal, likely_cost: Decimal, likely_tokens: int) -> Admission:
        """Reserve dollars and tokens for one request, or say which limit is in the way and when it may not be."""
        key_id, limits = principal.key_id, principal.limits
        account = self._accounts.get(key_id)
        if account is None:
            if limits == Limits():
                return FREE
            account = self._accounts[key_id] = Account(ZERO, midnight(self._wall()))
        now = self.turn(account)
        _check_in_flight(account, limits)
        _check_requests(account, limits, now)
        _check_tokens(account, limits, now, likely_tokens)
        _check_dollars(account, limits, likely_cost)
        account.requests.add(now, 1)
        account.in_flight += 1
        account.reserved_tokens += likely_tokens
        account.reserved_cost += likely_cost
        return _Reserved(self, account, likely_cost, likely_tokens)

    def turn(self, account: Account) -> float:
        """Bring an account up to now; return the clock's reading."""
        now = self._clock()
        account.turn_to(now, midnight(self._wall()))
        return now


class _Reserved:
    """One request of a key with limits."""

    def __init__(self, limiter: MemoryLimiter, account: Account, cost: Decimal, tokens: int) -> None:
        self._limiter = limiter
        self._account = account
        self._cost = cost
        self._tokens = tokens
        self._settled = False

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Book what it came to."""
        if self._settled:
            return
        self._settled = True
        account = self._account
        now = self._limiter.turn(account)
        account.in_flight -= 1
        account.reserved_tokens -= self._tokens
        account.reserved_cost -= self._cost
        account.tokens.add(now, tokens)
        account.spent += cost


class _Free:
    def settle(self, cost: Decimal, tokens: int) -> None:
        """Do nothing: nothing was reserved."""


FREE = _Free()


def _check_in_flight(account: Account, limits: Limits) -> None:
    if limits.in_flight is not None and account.in_flight >= limits.in_flight:
        message = f"this key has {account.in_flight} requests in flight, which is all it may have; wait for one to end"
        raise MillraceError("too_many_in_flight", message, retry_after_ms=RETRY_MS)


def _check_requests(account: Account, limits: Limits, now: float) -> None:
    limit = limits.requests_per_minute
    if limit is not None and account.requests.used >= limit:
        wait_ms = account.requests.wait_ms(now, account.requests.used + 1 - limit)
        raise MillraceError("rate_limit_exceeded", f"this key may ask {limit} times a minute", retry_after_ms=wait_ms)


def _check_tokens(account: Account, limits: Limits, now: float, likely: int) -> None:
    limit = limits.tokens_per_minute
    if limit is None or account.tokens.used + account.reserved_tokens + likely <= limit:
        return
    if likely > limit:
        message = f"this request may take {likely} tokens and its key {limit} a minute; ask for less"
        raise MillraceError("rate_limit_exceeded", message)
    wait_ms = account.tokens.wait_ms(now, account.tokens.used + account.reserved_tokens + likely - limit)
    raise MillraceError("rate_limit_exceeded", f"this key may use {limit} tokens a minute", retry_after_ms=wait_ms)


def _check_dollars(account: Account, limits: Limits, likely: Decimal) -> None:
    """Tell a budget that is spent, which stays so until midnight, from one that is only spoken for."""
    limit = limits.dollars_per_day
    if limit is None:
        return
    if account.spent >= limit or account.spent + likely > limit:
        message = f"${limit - account.spent:f} of ${limit:f} a day is left, and this may cost ${likely:f}; UTC counts"
        raise MillraceError("budget_exceeded", message)
    if account.spent + account.reserved_cost + likely > limit:
        message = f"what is left of ${limit:f} a day is reserved by requests in flight"
        raise MillraceError("rate_limit_exceeded", message, retry_after_ms=RETRY_MS)
