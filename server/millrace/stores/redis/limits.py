"""Limits over all replicas: each claims in Redis what its requests reserve, before they are admitted.

One call is under way at a time. It carries the claims of all accounts that have changed, so a request waits for one, or
two where one was just under way, and what is settled or reserved meanwhile waits for nothing. What a running answer
reserves later is claimed ahead of it: a share of what nobody else needs.

While Redis is away each replica goes on with what it has ahead, and with a share of the limits once all replicas say
that they find it away: those that still reach it may give each other the rest. So they go on for a while after that,
and after Redis was emptied, until all have told what they have.
"""

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from millrace.errors import MillraceError
from millrace.ports import Clock
from millrace.pricing import NANODOLLAR, ZERO
from millrace.principal import Limits
from millrace.stores.accounts import DAY_S, NOWHERE, RETRY_MS, Account, Elsewhere, Held, Today, has_budget
from millrace.stores.limits import MemoryLimiter
from millrace.stores.redis.claims import BEAT, CLAIM, SPENT, Claim, Granted, ReadLedger, granted
from millrace.stores.redis.link import CALL_S, RedisAwayError, RedisLink
from millrace.types.budget import AccountName, Reached

BEAT_S = 1.0  # between two signs of life; also between two claims of what is used of a minute
SETTLING_S = 3.0  # after Redis was emptied, until all replicas have told what they have
KNOWN_S = 2 * BEAT_S  # after its first sign of life all others have counted a replica
SURELY_S = 1.5  # after which the other replicas are asked whether they find Redis away, too
AT_ONCE, PAUSE_S = 200, 0.1  # claims that no request waits for
READ_AT_ONCE, READ_AGAIN_S = 20, 1.0  # accounts whose spending is read from the ledger; after a look that failed
LEDGER_S = 1.0  # for which a request waits for that
TOLD_S = 40 * 86_400  # for which it is known that an operator was told
MOST_TOLD = 1000  # steps that wait

Call = tuple[str, list[bytes], list[str | int]]  # a script, its keys, its arguments


class SharedLimits:
    """Counts the accounts of a limiter together with other replicas. `spool` is the id of the data_dir.

    `ledger` reads what all data_dirs have spent, where that is kept in one place; None: each tells its own alone.
    """

    def __init__(
        self,
        link: RedisLink,
        limiter: MemoryLimiter,
        spool: str,
        epoch: str,
        clock: Clock,
        ledger: ReadLedger | None = None,
    ) -> None:
        self.replicas = 1  # that live, as far as is known
        self.are_all_without: Callable[[], Awaitable[bool]] = _surely  # asks the others
        self._link = link
        self._limiter = limiter
        self._spool = spool
        self._epoch = epoch
        self._name = f"{spool}/{epoch}"
        self._clock = clock
        self._all = link.key("limits1", "replicas")
        self._due = asyncio.Event()
        self._round = asyncio.Event()  # set at the end of the next call
        self._changed: dict[Account, None] = {}
        self._waiting: deque[Account] = deque()  # to be told of when there is time
        self._active: dict[Account, None] = {}  # those that claim something
        self._begun_at: float | None = None  # when Redis first had a sign of life
        self._settles_until = -math.inf  # by the clock
        self._away_since: float | None = None
        self._are_all_without = False  # all replicas find Redis away
        self._beat_at = -math.inf
        self._number = 0  # of the last call
        self._ledger = ledger
        self._unread: dict[Account, asyncio.Event] = {}  # Redis has nothing of the ledger about them; set: it was asked
        self._unread_due = asyncio.Event()
        self._ledger_is_away = False
        self._reached: deque[Reached] = deque(maxlen=MOST_TOLD)
        self._tell: Callable[[Reached], None] = lambda _: None
        limiter.sharing = self
        link.on_return(self._returned)

    def told_once(self, tell: Callable[[Reached], None]) -> Callable[[Reached], None]:
        """Return what has a step told by one of the replicas."""
        self._tell = tell

        def reached(step: Reached) -> None:
            self._reached.append(step)
            self._due.set()

        return reached

    @asynccontextmanager
    async def drawn(self, held: Held, cost: Decimal, tokens: int) -> AsyncIterator[None]:
        """Claim what a request is likely to need, while it is admitted. With Redis away it has a share at once."""
        for account, _ in held:
            account.wanted += 1
            account.wanted_tokens += tokens
            account.wanted_cost += cost
        try:
            if not (self._link.is_away or self._settles):
                self.changed(held)
                with suppress(TimeoutError):  # then what is known must do
                    async with asyncio.timeout(CALL_S):
                        await self._round.wait()
                await self._looked_up(held)
            if self._link.is_away or self._settles:
                self._alone(held)
            if any(account.elsewhere is NOWHERE and has_budget(limits) for account, limits in held):
                raise MillraceError("rate_limit_exceeded", _UNKNOWN, retry_after_ms=RETRY_MS)
            yield
        finally:
            for account, _ in held:
                account.wanted -= 1
                account.wanted_tokens -= tokens
                account.wanted_cost -= cost
            self.changed(held)

    async def _looked_up(self, held: Held) -> None:
        """Wait for what the ledger knows of accounts, for a moment."""
        unread = [self._unread[account] for account, _ in held if account in self._unread]
        if unread:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEDGER_S):
                    for each in unread:
                        await each.wait()

    async def read_ledger(self) -> None:
        """Put into Redis what the ledger knows of accounts that Redis does not, until cancelled."""
        while self._ledger is not None:
            if not self._unread:
                self._unread_due.clear()
            await self._unread_due.wait()
            accounts, is_put = [*self._unread][:READ_AT_ONCE], False
            try:
                await self._read(self._ledger, accounts)
                self._ledger_is_away, is_put = False, True
            except TimeoutError:
                self._ledger_is_away = not self._link.is_away
            except RedisAwayError:
                pass  # the link has told
            self._changed.update(dict.fromkeys(accounts))
            self._due.set()
            if is_put:
                await self._round.wait()
            else:
                await asyncio.sleep(READ_AGAIN_S)

    async def _read(self, ledger: ReadLedger, accounts: list[Account]) -> None:
        today = self._limiter.today
        known = await ledger([account.name for account in accounts], today)
        calls = list[Call]()
        for account in accounts:
            spent = [(spool, day, month) for spool, (day, month) in known.get(account.name, {}).items()]
            calls.append(
                (SPENT, [self._key(account)], [*_numbers(today), *(value for each in spent for value in each)])
            )
        await self._link.ask(lambda redis: _run(redis, calls))

    def changed(self, held: Held) -> None:
        """Have the others told of what was used or reserved. Never waits."""
        self._changed.update((account, None) for account, _ in held)
        self._due.set()

    async def begin(self, siblings: Collection[str]) -> None:
        """Have those taken for dead that have run on this data_dir, and are not among the living siblings."""

        async def take(redis: Redis) -> None:
            names: Any = await redis.zrange(self._all, 0, -1)
            own = [name for name in names if name.decode().startswith(f"{self._spool}/")]
            if dead := [name for name in own if name.decode().partition("/")[2] not in siblings]:
                await redis.zrem(self._all, *dead)

        with suppress(RedisAwayError):  # then they are dead once they have not been heard of
            await self._link.ask(take)

    async def run(self) -> None:
        """Tell of what changes, until cancelled; then of what is left, and that this replica is gone."""
        try:
            while True:
                with suppress(TimeoutError):
                    most = PAUSE_S if self._waiting else BEAT_S
                    async with asyncio.timeout(min(most, max(0.0, self._beat_at - self._clock()))):
                        await self._due.wait()
                self._due.clear()
                beats = self._clock() >= self._beat_at
                if beats:
                    self._beat_at = self._clock() + BEAT_S
                    if not self._waiting:
                        self._waiting.extend(self._active)
                await self._told(beats=beats)
                while self._reached:
                    await self._told_of(self._reached.popleft())
        finally:
            await self._told(beats=False)
            with suppress(RedisAwayError):
                await self._link.ask(lambda redis: redis.zrem(self._all, self._name))

    async def _told(self, *, beats: bool) -> None:
        """Claim what has changed, and take over what the others have. Never raises an error of Redis."""
        changed, self._changed = self._changed, {}
        done, self._round = self._round, asyncio.Event()
        accounts = [*changed]
        while self._waiting and len(accounts) < len(changed) + AT_ONCE:
            accounts.append(self._waiting.popleft())
        self._number += 1
        today, claims = None, list[Claim]()
        while today is not self._limiter.today:  # it may become midnight meanwhile
            today = self._limiter.today
            claims = [self._claim(account) for account in accounts]
        before = [(account.settled_cost, account.spent_day, account.spent_month) for account in accounts]
        try:
            beat, *replies = await self._link.ask(lambda redis: self._send(redis, today, accounts, claims, beats=beats))
        except RedisAwayError:
            await self._ask_the_others()
            self._alone([(account, account.limits) for account in {**self._active, **dict.fromkeys(accounts)}])
        else:
            self._away_since = None
            if self._are_all_without:
                self._are_all_without = False
                self._emptied()
            if beat is not None:
                self._lives(*beat)
            self._apply(accounts, claims, before, [granted(reply) for reply in replies])
        finally:
            done.set()

    async def _send(
        self, redis: Redis, today: Today, accounts: list[Account], claims: list[Claim], *, beats: bool
    ) -> list[Any]:
        who = self._spool, self._epoch, *_numbers(today)
        calls: list[Call] = [(BEAT, [self._all], [self._name])] if beats else []
        for account, claim in zip(accounts, claims, strict=True):
            calls.append((CLAIM, [self._key(account), self._all], [*who, *claim.arguments]))
        replies = await _run(redis, calls)
        return replies if beats else [None, *replies]

    def _key(self, account: Account) -> bytes:
        """Return the key of an account. Names are hashed: no two are one, and nobody reads them in Redis."""
        return self._link.key("account1", _digest(account.name))

    def _claim(self, account: Account) -> Claim:
        self._limiter.advance(account)
        limits, heard = account.limits, account.elsewhere
        since = account.settled_cost - heard.own_at
        return Claim(
            settled=_nano(account.settled_cost),
            known_day=_nano(max(account.spent_day, heard.own_day + since if heard.own_day else ZERO)),
            known_month=_nano(max(account.spent_month, heard.own_month + since if heard.own_month else ZERO)),
            limit_day=None if limits.dollars_per_day is None else _nano(limits.dollars_per_day),
            limit_month=None if limits.dollars_per_month is None else _nano(limits.dollars_per_month),
            cost=_nano(account.reserved_cost),
            more_cost=_nano(account.wanted_cost),
            limit_requests=limits.requests_per_minute,
            requests=account.requests.used,
            more_requests=account.wanted,
            limit_tokens=limits.tokens_per_minute,
            tokens=account.tokens.used + account.reserved_tokens,
            more_tokens=account.wanted_tokens,
            limit_in_flight=limits.in_flight,
            in_flight=account.in_flight,
            number=self._number,
        )

    def _lives(self, was_known: int, replicas: int) -> None:
        if self._begun_at is None:
            self._begun_at = self._clock()
        elif not was_known:
            self._emptied()
        self.replicas = max(self.replicas, replicas) if self._settles else replicas

    @property
    def _settles(self) -> bool:
        return self._clock() < self._settles_until

    def _returned(self) -> None:
        """Find out what Redis has kept, and tell it all."""
        self._waiting = deque(self._limiter.accounts)
        self._beat_at = -math.inf
        self._due.set()

    def _emptied(self) -> None:
        """Go on with a share until all replicas have told what they have: Redis may have lost it."""
        self._settles_until = self._clock() + SETTLING_S
        self._alone([(account, account.limits) for account in self._active])
        self._waiting = deque(self._limiter.accounts)

    def _apply(
        self,
        accounts: list[Account],
        claims: list[Claim],
        before: list[tuple[Decimal, Decimal, Decimal]],
        replies: list[Granted],
    ) -> None:
        """Take over what the others have. `before`: what was settled and spent when the claims were made."""
        lost = (
            account.elsewhere is not NOWHERE and not account.elsewhere.is_alone and not reply.was_known
            for account, reply in zip(accounts, replies, strict=True)
        )
        if any(lost):
            self._emptied()
        for account, claim, (settled, day, month), reply in zip(accounts, claims, before, replies, strict=True):
            if claim.is_idle:
                self._active.pop(account, None)
            else:
                self._active[account] = None
            is_budget = claim.limit_day is not None or claim.limit_month is not None
            is_read = not is_budget or self._is_read(account, reply)
            if self._settles:
                self._alone([(account, account.limits)])
                continue
            if not (is_read or self._ledger_is_away):
                continue  # what all have spent is known soon; until then it has what it had
            granted = settled + reply.granted * NANODOLLAR if is_budget else None
            if granted is not None and not is_read:  # more may be spent than anybody knows now
                granted = min(granted, _own_share(account, account.limits, self.replicas))
            account.elsewhere = Elsewhere(
                day=max(ZERO, reply.spent_day * NANODOLLAR - day),
                month=max(ZERO, reply.spent_month * NANODOLLAR - month),
                reserved=reply.reserved * NANODOLLAR,
                requests=reply.requests,
                tokens=reply.tokens,
                in_flight=reply.in_flight,
                granted=granted,
                own_day=reply.own_day * NANODOLLAR,
                own_month=reply.own_month * NANODOLLAR,
                own_at=settled,
            )

    def _is_read(self, account: Account, reply: Granted) -> bool:
        """Whether Redis has what the ledger knows of an account. Else that is looked up."""
        if self._ledger is None or reply.is_read:
            if (asked := self._unread.pop(account, None)) is not None:
                asked.set()
            return True
        asked = self._unread.setdefault(account, asyncio.Event())
        if self._ledger_is_away:
            asked.set()
        self._unread_due.set()
        return False

    async def _ask_the_others(self) -> None:
        """Find out, some time after Redis went away, whether it is away for all.

        Who had begun just then is not among those that the others divide by, and does not know them all.
        """
        now = self._clock()
        self._away_since = now if self._away_since is None else self._away_since
        is_known = self._begun_at is not None and self._away_since - self._begun_at >= KNOWN_S
        if is_known and now - self._away_since >= SURELY_S:
            self._are_all_without = await self.are_all_without()

    def _alone(self, held: Iterable[tuple[Account, Limits]]) -> None:
        """Give accounts a share of their limits, to be used without asking, unless Redis may be there for the others.

        Then they have what was granted before. While all tell what they have, what is not known of an account is not
        given away.
        """
        for account, limits in held:
            if self._settles or self._are_all_without:
                if account.elsewhere is not NOWHERE or not self._settles:
                    account.elsewhere = _share(account, limits, self.replicas)
            elif account.elsewhere.is_alone and account.elsewhere.granted is not None:
                held_now = account.settled_cost + account.reserved_cost
                account.elsewhere = replace(account.elsewhere, granted=held_now)

    async def _told_of(self, reached: Reached) -> None:
        """Have an operator told of a step, unless another replica has; with Redis away, in any case."""
        account = self._key_of(reached)
        try:
            is_first = await self._link.ask(lambda redis: redis.set(account, b"1", nx=True, ex=TOLD_S))
        except RedisAwayError:
            is_first = True
        if is_first:
            self._tell(reached)

    def _key_of(self, reached: Reached) -> bytes:
        when = f"{reached.period}:{reached.began_at:.0f}:{reached.step}"
        return self._link.key("told1", _digest(reached.account), when)


async def _run(redis: Redis, calls: list[Call]) -> list[Any]:
    """Run scripts in one round trip; return their replies."""
    async with redis.pipeline(transaction=False) as pipe:
        for script, keys, arguments in calls:
            pipe.evalsha(_SHAS[script], len(keys), *keys, *arguments)
        commands = [*pipe.command_stack]
        try:
            replies: list[Any] = await pipe.execute()
        except NoScriptError:  # Redis was started again: what was done already may be done again
            for script in _SHAS:
                await redis.script_load(script)
            pipe.command_stack.extend(commands)
            replies = await pipe.execute()
    return replies


async def _surely() -> bool:
    return True


def _share(account: Account, limits: Limits, replicas: int) -> Elsewhere:
    """Return what leaves an account its share of the limits, where the others cannot be asked.

    Of dollars, it has what it was granted, and half of its share of what was left then: others may be granted the rest
    meanwhile. What was known of an account that nobody asked for lately is not enough for that.
    """
    known = account.elsewhere
    budgets = [(limit, spent) for _, spent, limit in account.budgets(limits)]
    bound = known.granted
    if budgets and (bound is None or not known.is_alone):
        if known is NOWHERE:
            bound = _own_share(account, limits, replicas)
        else:
            held = account.reserved_cost
            if bound is not None:
                held = max(held, bound - account.settled_cost)
            room = (min(limit - spent for limit, spent in budgets) - held - known.reserved) / (2 * replicas)
            bound = account.settled_cost + held + max(ZERO, room)
    return replace(
        known,
        reserved=ZERO,
        requests=_without_share(limits.requests_per_minute, replicas),
        tokens=_without_share(limits.tokens_per_minute, replicas),
        in_flight=_without_share(limits.in_flight, replicas),
        granted=bound if budgets else None,
        is_alone=True,
    )


def _own_share(account: Account, limits: Limits, replicas: int) -> Decimal:
    """Return the dollars of all time that may be settled and reserved here, if each replica has an equal part."""
    budgets = (limits.dollars_per_day, account.spent_day), (limits.dollars_per_month, account.spent_month)
    left = min(limit / replicas - spent for limit, spent in budgets if limit is not None)
    return account.settled_cost + max(account.reserved_cost, left)


def _without_share(limit: int | None, replicas: int) -> int:
    return 0 if limit is None else limit - max(1, limit // replicas)


def _nano(dollars: Decimal) -> int:
    return int(dollars / NANODOLLAR)


def _numbers(today: Today) -> tuple[int, int]:
    """Return the numbers of the day and the month."""
    month = datetime.fromtimestamp(today.month, UTC)
    return int(today.day // DAY_S), 12 * month.year + month.month


def _digest(name: AccountName) -> str:
    return hashlib.blake2b("\0".join(name).encode(), digest_size=16).hexdigest()


_UNKNOWN = "what other replicas have spent of a budget cannot be asked just now; retry in a second"
_SHAS = {script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (BEAT, CLAIM, SPENT)}
