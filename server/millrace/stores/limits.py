"""Limits of keys, tenants, end users and tags, counted in this process. All accounts of a request reserve, or none.

What an account has spent is read from the ledger when it is first needed. So are accounts of end users and tags that
were dropped: only the latest are kept. What such an account did within a minute is forgotten then, not its dollars.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal

from msgspec.structs import replace

from millrace import log
from millrace.errors import EXITS, MillraceError
from millrace.ports import Admitted, Clock
from millrace.pricing import ZERO
from millrace.principal import NO_RULES, UNLIMITED, LimitRules, Limits, Principal
from millrace.stores.accounts import Account, Held, Sharing, Today, has_budget, rest_of
from millrace.types import EVIDENCE_TENANT
from millrace.types.budget import (
    RANKS,
    AccountKind,
    AccountName,
    Budget,
    Left,
    Period,
    Reached,
    Remaining,
    Rest,
    Spent,
    Step,
    Steps,
    Used,
    step_at,
)

MOST_ACCOUNTS = 10_000  # of end users and tags, in memory
ACCOUNT_BYTES = 2500  # of one, about
MOST_BYTES = MOST_ACCOUNTS * ACCOUNT_BYTES

# What accounts have spent, as the ledger has it on the disk; `True`: after all that waits to be written.
Read = Callable[[Collection[AccountName], bool], Awaitable[Mapping[AccountName, Spent]]]


async def nothing_spent(names: Collection[AccountName], _: bool) -> Mapping[AccountName, Spent]:  # noqa: FBT001 - as `Read` has it
    """Return that nothing was spent, where no ledger is."""
    return {}


class MemoryLimiter:
    """Accounts of all that has limits."""

    def __init__(
        self,
        clock: Clock,
        wall: Clock,
        read: Read = nothing_spent,
        rules: LimitRules = NO_RULES,
        steps: Steps = (),
        *,
        most: int = MOST_ACCOUNTS,
        share_of: int = 1,  # workers, each of which counts by itself
    ) -> None:
        self.on_reached: Callable[[Reached], None] = lambda _: None
        self.sharing: Sharing | None = None  # None: all limits are those of this process
        self._clock = clock
        self._wall = wall
        self._read = read
        self._rules = rules
        self._has_rules = rules != NO_RULES
        self._steps = steps
        self._most = most
        self._share_of = share_of
        self._accounts: dict[AccountName, Account] = {}  # of keys and tenants
        self._named: OrderedDict[AccountName, Account] = OrderedDict()  # of end users and tags, the latest at the end
        self._reads_late = False  # what this process has spent may not be on the disk yet when it is read
        self.today = Today.at(wall())

    @property
    def bytes_used(self) -> int:
        """Bytes of all accounts, about."""
        return ACCOUNT_BYTES * (len(self._accounts) + len(self._named))

    @property
    def accounts(self) -> Iterator[Account]:
        """All accounts that are in memory."""
        yield from self._accounts.values()
        yield from self._named.values()

    @property
    def is_shared(self) -> bool:
        """Whether limits are shared with other replicas."""
        return self.sharing is not None

    def budgets(self) -> Callable[[str | None], list[Used]]:
        """Return what adds up the budgets of the accounts in memory, of a tenant or of all; for another thread."""
        accounts, today, steps = [*self.accounts], self.today, self._steps

        def used(tenant: str | None) -> list[Used]:
            return [
                Used(account.name, period, float(spent / limit) if limit else 1.0, step_at(steps, spent, limit))
                for account in accounts
                if tenant in (None, account.name.tenant)
                for period, spent, limit in account.budgets_of(today)
            ]

        return used

    def configure(self, rules: LimitRules, steps: Steps) -> None:
        """Set other limits, for requests that are admitted from now on. What was spent is read anew."""
        self._rules, self._has_rules, self._steps = rules, rules != NO_RULES, steps
        self._reads_late = True
        for account in self.accounts:
            if not account.in_flight:
                account.is_read = False

    def limits(self, principal: Principal, user: str = "", tag: str = "") -> bool:
        """Whether anything is limited, so that what a request is likely to cost is of interest."""
        return bool(self._has_rules or principal.limits != UNLIMITED) and bool(self._limits_of(principal, user, tag))

    def has_budget(self, principal: Principal, user: str = "", tag: str = "") -> bool:
        """Whether dollars are limited."""
        return any(has_budget(limits) for _, limits in self._limits_of(principal, user, tag))

    async def prepare(self, principal: Principal, user: str = "", tag: str = "") -> None:
        """Read what the accounts of a request have spent, if that is not known. Raises `overloaded`."""
        while unread := self._unread(principal, user, tag):
            try:
                found = await self._read(unread, self._reads_late)
            except EXITS:
                raise
            except Exception as error:  # locked, or late
                log.get().warning("what was spent was not read", error=str(error))
                message = f"what {unread[0].whose} has spent cannot be read now; try again in a second"
                raise MillraceError("overloaded", message, retry_after_ms=1000) from None
            for name in unread:
                account = self._account(name)
                self.advance(account)
                if not account.is_read:  # else another request has read it meanwhile, and maybe spent since
                    was_known = account.was_read  # then other limits are why it is read anew, and they have steps too
                    account.know(found.get(name, Spent(ZERO, ZERO)))
                    limits = dict(self._limits_of(principal, user, tag)).get(name, UNLIMITED)
                    self._note(account, limits, tells=was_known)

    def lacks(self, principal: Principal, user: str = "", tag: str = "") -> bool:
        """Whether it is not known what the accounts of a request have spent."""
        return self.limits(principal, user, tag) and bool(self._unread(principal, user, tag))

    @asynccontextmanager
    async def drawn(
        self, principal: Principal, cost: Decimal, tokens: int, user: str = "", tag: str = ""
    ) -> AsyncIterator[None]:
        """Have what a request is likely to need at hand while it is admitted. Raises `overloaded`."""
        if self.sharing is None:
            yield
            return
        await self.prepare(principal, user, tag)
        async with self.sharing.drawn(self._held(principal, user, tag), cost, tokens):
            yield

    def step(self, principal: Principal, user: str = "", tag: str = "") -> Step | None:
        """Return what is done with a request, by what is spent of its budgets."""
        if not self._steps:
            return None
        held = self._held(principal, user, tag)
        budget = self._budget(held)
        return None if budget is None else budget.step

    def admit(
        self,
        principal: Principal,
        likely_cost: Decimal,
        likely_tokens: int,
        user: str = "",
        tag: str = "",
        *,
        least_cost: Decimal | None = None,
        browns_out: bool = False,
        in_frames: bool = False,
    ) -> Admitted:
        """Reserve dollars and tokens for one request, of all its accounts or of none.

        With less than it is likely to cost, but with `least_cost`, it gets all the rest of its budget, once nobody
        else has reserved of that. Where a budget is spent, a request that `browns_out` is admitted for the caches
        alone, if a step says so; it reserves nothing. `in_frames`: its client is told of a step in frames. Raises
        `too_many_in_flight`, `rate_limit_exceeded` or `budget_exceeded`, with a delay where waiting helps.
        """
        if not (self._has_rules or principal.limits != UNLIMITED):
            return _NO_RESERVATION
        held = self._held(principal, user, tag)
        if not held:
            return _NO_RESERVATION
        now = self._clock()
        budget = self._budget(held) if browns_out else None
        rest = None
        if budget is None or budget.step is not Step.CACHE:
            budget, rest = self._afforded(held, budget, likely_cost, least_cost, browns_out=browns_out)
        if rest is not None:
            likely_cost = rest.dollars
        if budget is not None and budget.step is Step.CACHE:
            likely_cost, likely_tokens = ZERO, 0
        try:
            for account, limits in held:
                account.check_rates(limits, now, likely_tokens)
                if likely_cost:
                    account.check_reserved(limits, likely_cost)
        except MillraceError as error:
            raise self._told(error, held) from None
        for account, _ in held:
            account.requests.add(now, 1)
            account.in_flight += 1
            account.reserved_tokens += likely_tokens
            account.reserved_cost += likely_cost
        if budget is not None and in_frames and self._is_due(budget) and self._is_news(budget, principal.key_id):
            budget = replace(budget, is_news=True)
        return _Reservation(self, held, likely_cost, likely_tokens, budget, rest)

    def _afforded(
        self, held: Held, budget: Budget | None, likely: Decimal, least: Decimal | None, *, browns_out: bool
    ) -> tuple[Budget | None, Rest | None]:
        """Return what the budgets say of a request, and what is left of them if that is less than it is likely to cost.

        Raises `budget_exceeded`.
        """
        lacking = next(((account, lack) for account, limits in held if (lack := account.lacking(limits, likely))), None)
        if lacking is None:
            return budget, None
        account, lack = lacking
        rest = rest_of(held)
        if least is not None and rest.dollars >= least and rest.dollars > 0:
            return budget, rest
        if browns_out and any(step is Step.CACHE for _, step in self._steps):
            budget = self._of(account, lack, Step.CACHE)  # what is left of it buys nothing
            if self._is_due(budget):
                self._tell(account, lack, Step.CACHE)
            return budget, None
        raise self._told(account.over_budget(*lack, likely), held)

    def count(self, name: AccountName, dollars: Decimal) -> None:
        """Count dollars that another process has spent. An account that is not read yet has them on the disk."""
        account = self._accounts.get(name) or self._named.get(name)
        if account is not None and account.is_read:
            self.advance(account)
            account.spend(dollars)
            self._note(account, account.limits)

    def settled(self, held: Held, cost: Decimal, tokens: int) -> None:
        """Count what a request has used that has just ended."""
        now = self._clock()
        for account, limits in held:
            self.advance(account)
            account.tokens.add(now, tokens)
            account.spend(cost)
            account.settled_cost += cost
            if self._steps and cost:
                self._note(account, limits)
        self.changed(held)

    def changed(self, held: Held) -> None:
        """Have other replicas told of accounts, where limits are shared."""
        if self.sharing is not None:
            self.sharing.changed(held)

    def left(self, held: Held, step: Step | None) -> Left:
        """Return what is left of the limits of a request, each of the account that has the least of it."""
        now = self._clock()
        requests, tokens, dollars = [], [], []
        for account, limits in held:
            self.advance(account)
            if (most := limits.requests_per_minute) is not None:
                left = max(0, most - account.requests.used - account.elsewhere.requests)
                requests.append(Remaining(most, left, account.requests.reset_s(now)))
            if (most := limits.tokens_per_minute) is not None:
                left = max(0, most - account.tokens.used - account.reserved_tokens - account.elsewhere.tokens)
                tokens.append(Remaining(most, left, account.tokens.reset_s(now)))
            for period, spent, limit in account.budgets(limits):
                left_usd = max(ZERO, limit - spent - account.reserved_cost - account.elsewhere.reserved)
                dollars.append(Remaining(limit, left_usd, self.today.ends(period) - self._wall()))
        return Left(requests=_least(requests), tokens=_least(tokens), dollars=_least(dollars), step=step)

    def _limits_of(self, principal: Principal, user: str, tag: str) -> list[tuple[AccountName, Limits]]:
        """Return the names and limits of a request's accounts, in the order in which they are checked."""
        tenant, rules = principal.tenant, self._rules
        found = [(AccountName(AccountKind.KEY, tenant, principal.key_id), principal.limits)]
        if self._has_rules and tenant != EVIDENCE_TENANT:
            names = [AccountName(AccountKind.TENANT, tenant)]
            if user:
                names.append(AccountName(AccountKind.USER, tenant, user))
            if tag:
                names.append(AccountName(AccountKind.TAG, tenant, tag))
            found += [(name, rules.of(name)) for name in names]
        if self._share_of > 1:
            found = [(name, limits.shared(self._share_of)) for name, limits in found]
        return [each for each in found if each[1] != UNLIMITED]

    def _unread(self, principal: Principal, user: str, tag: str) -> list[AccountName]:
        """Return the accounts of a request with budgets of which it is not known what is spent."""
        limited = self._limits_of(principal, user, tag)
        return [name for name, limits in limited if has_budget(limits) and self._lacks(name)]

    def _held(self, principal: Principal, user: str, tag: str) -> Held:
        held = []
        for name, limits in self._limits_of(principal, user, tag):
            account = self._account(name)
            account.limits = limits
            self.advance(account)
            held.append((account, limits))
        return tuple(held)

    def _lacks(self, name: AccountName) -> bool:
        account = self._accounts.get(name) or self._named.get(name)
        return account is None or not account.is_read

    def _account(self, name: AccountName) -> Account:
        if name.kind in (AccountKind.KEY, AccountKind.TENANT):
            if (account := self._accounts.get(name)) is None:
                account = self._accounts[name] = Account(name, self.today)
            return account
        if (account := self._named.get(name)) is None:
            self._make_room()
            account = self._named[name] = Account(name, self.today)
        else:
            self._named.move_to_end(name)
        return account

    def _make_room(self) -> None:
        """Drop the account that was least recently used, of those that no request holds."""
        if len(self._named) < self._most:
            return
        idle = next((name for name, account in self._named.items() if not (account.in_flight or account.wanted)), None)
        if idle is not None:
            del self._named[idle]
            self._reads_late = True

    def advance(self, account: Account) -> None:
        """Drop what an account did more than a minute ago, or on another day."""
        wall = self._wall()
        if not self.today.day <= wall < self.today.next_day:
            self.today = Today.at(max(wall, self.today.day))  # a clock that is set back gives nobody a second day
        account.advance(self._clock(), self.today)

    def _budget(self, held: Held) -> Budget | None:
        """Return the budget that is furthest, if it has reached a step; of several in one, the first account's."""
        found: Budget | None = None
        for account, limits in held:
            for budget in account.budgets(limits):
                step = step_at(self._steps, budget[1], budget[2])
                if step is not None and (found is None or RANKS[step] > RANKS[found.step]):
                    found = self._of(account, budget, step)
        return found

    def _of(self, account: Account, budget: tuple[Period, Decimal, Decimal], step: Step) -> Budget:
        period, spent, limit = budget
        resets_at = self.today.ends(period)
        return Budget(step=step, account=account.name, period=period, spent=spent, limit=limit, resets_at=resets_at)

    def _is_due(self, budget: Budget) -> bool:
        """Whether a budget has come to a step in order. One dear request skips steps that are still to be told."""
        before = [share for share, step in self._steps if RANKS[step] < RANKS[budget.step]]
        return not before or budget.spent >= max(before) * budget.limit

    def _is_news(self, budget: Budget, key_id: str) -> bool:
        """Whether a key has not been told of a step of a budget, in this period. Then it counts as told."""
        account = self._accounts.get(budget.account) or self._named.get(budget.account)
        assert account is not None, "a request holds it"
        return _is_next(account.told.setdefault(key_id, {}), budget.period, self.today, budget.step)

    def _note(self, account: Account, limits: Limits, *, tells: bool = True) -> None:
        """Tell the operator of the steps that an account has reached; or only note that it has."""
        for budget in account.budgets(limits):
            step = step_at(self._steps, budget[1], budget[2])
            if step is not None:
                self._tell(account, budget, step, tells=tells)

    def _tell(
        self, account: Account, budget: tuple[Period, Decimal, Decimal], step: Step, *, tells: bool = True
    ) -> None:
        period, spent, limit = budget
        if _is_next(account.reached, period, self.today, step) and tells:
            self.on_reached(
                Reached(
                    account=account.name,
                    period=period,
                    began_at=self.today.begins(period),
                    resets_at=self.today.ends(period),
                    step=step,
                    spent=spent,
                    limit=limit,
                )
            )

    def _told(self, error: MillraceError, held: Held) -> MillraceError:
        """Return an error with what is left of the limits of its request."""
        error.left = self.left(held, None)
        return error


class _Reservation:
    """What one request has reserved of its accounts."""

    __slots__ = ("_cost", "_held", "_limiter", "_settled", "_tokens", "budget", "limits_cost", "rest")

    def __init__(
        self,
        limiter: MemoryLimiter,
        held: Held,
        cost: Decimal,
        tokens: int,
        budget: Budget | None,
        rest: Rest | None,
    ) -> None:
        self._limiter = limiter
        self._held = held
        self.limits_cost = any(has_budget(limits) for _, limits in held)
        self._cost = cost
        self._tokens = tokens
        self._settled = False
        self.budget = budget
        self.rest = rest

    @property
    def reserved(self) -> Decimal:
        """Dollars that are reserved so far."""
        return self._cost

    def reserve_more(self, cost: Decimal, tokens: int) -> Decimal:
        """Reserve more of the budgets, as far as there is more, and as many tokens of the minute as that buys."""
        granted = cost
        for account, limits in self._held:
            self._limiter.advance(account)
            if (left := account.dollars_left(limits)) is not None:
                granted = min(granted, left)
        if granted < cost:
            tokens = int(tokens * granted / cost)
        self._cost += granted
        self._tokens += tokens
        for account, _ in self._held:
            account.reserved_cost += granted
            account.reserved_tokens += tokens
        self._limiter.changed(self._held)
        return granted

    def used_up(self) -> MillraceError:
        """Return the error of a request that has used all there is."""
        limited = [(account, limits) for account, limits in self._held if has_budget(limits)]
        account, limits = min(limited, key=lambda each: each[0].dollars_left(each[1]) or ZERO)
        return account.used_up(limits)

    def left(self) -> Left:
        """Return what is left of its limits now."""
        return self._limiter.left(self._held, None if self.budget is None else self.budget.step)

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Replace the reservation by the real cost and tokens. Only the first call counts."""
        if self._settled:
            return
        self._settled = True
        for account, _ in self._held:
            account.in_flight -= 1
            account.reserved_tokens -= self._tokens
            account.reserved_cost -= self._cost
        self._limiter.settled(self._held, cost, tokens)


class _NoReservation:
    limits_cost = False
    reserved = ZERO
    budget: Budget | None = None
    rest: Rest | None = None

    def reserve_more(self, cost: Decimal, _tokens: int) -> Decimal:
        """Return all of it, since nothing is limited."""
        return cost

    def used_up(self) -> MillraceError:
        """Never called, since nothing is limited."""
        raise AssertionError("nothing is limited")

    def left(self) -> None:
        """Return that nothing is limited."""

    def settle(self, cost: Decimal, tokens: int) -> None:
        """Do nothing, since nothing was reserved."""


_NO_RESERVATION = _NoReservation()


def _is_next(told: dict[Period, tuple[float, int]], period: Period, today: Today, step: Step) -> bool:
    """Whether a step is one after those that were told of a period. It counts as told then."""
    now = (today.begins(period), RANKS[step])
    if now <= told.get(period, (0.0, 0)):
        return False
    told[period] = now
    return True


def _least(remaining: list[Remaining]) -> Remaining | None:
    return min(remaining, key=lambda each: each.left, default=None)
