"""Routes the turns of a session together: by what each model costs for a turn, with what the other turns say of it.

A provider keeps a prompt in its cache for some minutes, and what is read from there costs a fraction. So the price of a
turn depends on who was asked when. What the large model costs more for a turn is reckoned from what both models have
in their caches of the session now, and from what it spares later to have it there: the sooner the large model is wanted
again, the more. The threshold is the gain that pays for what it costs more on average. Where it costs more than that, a
higher score is needed, where it costs less, a lower one does, and where it costs nothing it is asked outright. If the
caches are warm for both, little is left of that, and each turn is routed by its score.

The turns before count too (`runs.py`). A session goes up at once, and stays for a turn more, if a tool has failed, a
call repeats, small answers fail their checks, or its history is nearly too long for the small model.

Where a promise of quality rests on the threshold, no session is kept below what the router wants. What binds a request
to one model (`pins.py`) comes before the router, and so before this.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

from millrace import pricing
from millrace.funnel.catalog import Catalog
from millrace.funnel.routing.features import is_call_repeated, last_tool_failed
from millrace.funnel.routing.promises import Threshold
from millrace.funnel.routing.runs import Run, Runs
from millrace.ports import Clock
from millrace.types import Model, Request, Tier, Usage

TENANTS, SESSIONS = 256, 512  # that are known at once; sessions of each tenant, about 500 bytes each
CACHED_S = 300.0  # for which providers keep a prompt in their cache after its last use
CACHEABLE = 1024  # tokens; shorter prompts are not cached
ESCALATED = 2  # small answers in a row that failed their checks, until the session goes up
NEARLY = 0.75  # of what fits the small model: as much as a few turns with tools bring
DEARER = 3.0  # times the threshold, that a score must reach at most
AHEAD = 10_000  # tokens that the price of one is a mean of
FAR = 12  # turns that are looked ahead
SPREAD = 3.4  # how sharply the time of a next turn is known: of gaps that scatter by a factor of about 1.6
OUTPUT = 400  # tokens of an answer, about
GAP_S = 60.0  # between two turns, until a session has two
_NEW, _NEW_COST = 0.3, 0.02  # how much of a running mean comes from the last turn
TROUBLE = 2  # turns that a session stays up for, after trouble
_RISES, _STAYS, _SEEN = 0.2, 0.6, 4.0  # how often the large model is wanted after a turn without, and with, as if seen
STAYS = "the session stays: its history is in the large model's prompt cache"
CHEAP = "the large model costs little more than the small one for this turn"
DEAR = "the session stays: to bring its history to the large model costs too much"


@dataclass(slots=True)
class _Session:
    tier: Tier
    at: float
    tokens: int  # of its last prompt
    turns: int = 0
    trouble: int = 0  # turns for which it stays up, after trouble that was a reason to go up
    escalated: int = 0  # small answers in a row that failed their checks
    was_up: bool | None = None  # whether the large model was wanted for its last turn
    seen: dict[bool, list[float]] = field(  # turns after one for which it was wanted, or not; and so again
        default_factory=lambda: {False: [_SEEN, _SEEN * _RISES], True: [_SEEN, _SEEN * _STAYS]}
    )
    gap: float = GAP_S  # seconds between two turns: a running mean
    run: Run = field(default_factory=Run)
    growth: float = 0.0  # tokens from turn to turn: a running mean
    used: dict[Tier, tuple[float, int]] = field(default_factory=dict)  # when a model was asked last, and how much

    def chance_up(self, *, is_up: bool) -> float:
        """Return how likely the large model is wanted for the turn after one for which it was, or was not."""
        turns, up = self.seen[is_up]
        return up / turns


@dataclass(slots=True)
class _Tenant:
    runs: Runs = field(default_factory=Runs)
    sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)  # the oldest first
    extra: float | None = None  # dollars that a turn costs more at the large model: a running mean


class Sessions:
    """The sessions of all tenants. A look takes some microseconds."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        """`clock` in seconds."""
        self.catalog = catalog  # may change at any time
        self._clock = clock
        self._cheaper = {  # dollars that `AHEAD` tokens cost less if they are read from the cache
            tier: _cost(model, AHEAD, 0) - _cost(model, AHEAD, AHEAD)
            for tier, model in zip((Tier.SMALL, Tier.LARGE), catalog.models, strict=True)
        }
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()  # the oldest first

    def hold(
        self, request: Request, wanted: Tier, score: float | None = None, threshold: Threshold | None = None
    ) -> tuple[Tier, str]:
        """Return whom to ask first, and why if it is not who is wanted; empty if it is.

        It is called once for each request that the router routes: it counts a turn. Without a score and its threshold,
        no session is kept below what is wanted.
        """
        now = self._clock()
        tenant = self._tenant(request.tenant)
        session = self._session(tenant, request, wanted, now)
        why = self._why_up(request, session)
        is_up, tier, reason = wanted is Tier.LARGE or bool(why), wanted, ""
        session.trouble = TROUBLE if why else session.trouble - 1
        weighed = self._weighed(tenant, session, request, wanted, score, threshold, now)
        if why:
            tier, reason = Tier.LARGE, "" if wanted is Tier.LARGE else why
        elif session.trouble > 0:
            tier, reason = Tier.LARGE, "" if wanted is Tier.LARGE else "the session stays at the large model for now"
        elif session.turns > 1:
            tier, reason = weighed
        if session.was_up is not None:
            seen = session.seen[session.was_up]
            seen[0] += 1
            seen[1] += is_up
        session.was_up = is_up
        session.tier = tier
        session.used[tier] = now, request.input_tokens
        return tier, reason

    def escalated(self, request: Request) -> None:
        """Count a small answer of a session that failed its checks, so that the large model was asked too."""
        session = self._known(request)
        if session is not None:
            session.escalated += 1
            session.used[Tier.LARGE] = self._clock(), request.input_tokens

    def passed(self, request: Request) -> None:
        """Count a small answer of a session that passed its checks."""
        session = self._known(request)
        if session is not None:
            session.escalated = 0

    def _known(self, request: Request) -> _Session | None:
        tenant = self._tenants.get(request.tenant)
        return None if tenant is None else tenant.sessions.get(request.session)

    def _why_up(self, request: Request, session: _Session) -> str:
        """Return why the large model should be asked, whatever the last message says; empty: it need not."""
        messages = request.prompt.messages
        if last_tool_failed(messages):
            return "up: the last tool failed"
        if messages and messages[-1].role == "tool" and is_call_repeated(messages):
            return "up: the last tool call repeats an earlier one"
        if session.escalated >= ESCALATED:
            return f"up: the last {session.escalated} small answers failed their checks"
        if not self.catalog.fits_small(request, NEARLY):
            return f"up: its history is nearly too long for {self.catalog.small.id}"
        return ""

    def _weighed(
        self,
        tenant: _Tenant,
        session: _Session,
        request: Request,
        wanted: Tier,
        score: float | None,
        threshold: Threshold | None,
        now: float,
    ) -> tuple[Tier, str]:
        """Return whom to ask at the prices of this turn, and why if it is not who is wanted.

        The threshold is the gain at which an average turn of the large model pays; a dearer one needs more.
        """
        extra = self._extra(session, request.input_tokens, is_wanted=wanted is Tier.LARGE, now=now)
        usual = tenant.extra
        expected = score if score is None else tenant.runs.expected(session.run, score)
        paid = max(extra, 0.0)
        tenant.extra = paid if usual is None else usual + _NEW_COST * (paid - usual)
        if extra <= 0:
            return Tier.LARGE, "" if wanted is Tier.LARGE else STAYS
        if expected is None or threshold is None or threshold.binds or not usual or not 0 < threshold.value < math.inf:
            return wanted, ""
        tier = Tier.LARGE if expected >= threshold.value * min(paid / usual, DEARER) else Tier.SMALL
        if tier is wanted:
            return tier, ""
        return tier, CHEAP if tier is Tier.LARGE else DEAR

    def _extra(self, session: _Session, tokens: int, *, is_wanted: bool, now: float) -> float:
        """Return how many dollars the large model costs more than the small one, with what is spared later.

        Whoever is asked keeps its cache. That is worth what its next turn costs less for it.
        """
        small, large = self.catalog.models
        extra = _cost(large, tokens, self._cached(session, Tier.LARGE, now))
        extra -= _cost(small, tokens, self._cached(session, Tier.SMALL, now))
        chance = session.chance_up(is_up=is_wanted)
        up, stays_down = session.chance_up(is_up=False), 1 - session.chance_up(is_up=True)
        extra -= self._spared(session, Tier.LARGE, tokens, (chance, up), now)
        return extra + self._spared(session, Tier.SMALL, tokens, (1 - chance, stays_down), now)

    def _spared(self, session: _Session, tier: Tier, tokens: int, chances: tuple[float, float], now: float) -> float:
        """Return how many dollars a model's next turn costs less if it is asked now too.

        `chances` are those that it is wanted at the next turn, and at each one after that if not before.
        """
        at, had = session.used.get(tier, (-math.inf, 0))
        cheaper = self._cheaper[tier]
        if cheaper <= 0:
            return 0.0
        spared, left, chance = 0.0, 1.0, chances[0]
        for turn in range(1, min(max(session.turns, 2), FAR) + 1):
            after = turn * session.gap
            kept = _kept(after) * tokens - _kept(now - at + after) * min(had, tokens)
            spared += left * chance * max(kept, 0.0)
            left *= 1 - chance
            chance = chances[1]
        return spared * cheaper / AHEAD

    def _cached(self, session: _Session, tier: Tier, now: float) -> int:
        """Return how many tokens of its history a model's provider has in its cache, about."""
        at, tokens = session.used.get(tier, (-math.inf, 0))
        return tokens if now - at < CACHED_S else 0

    def _tenant(self, name: str) -> _Tenant:
        tenant = self._tenants.setdefault(name, _Tenant())
        self._tenants.move_to_end(name)
        if len(self._tenants) > TENANTS:
            self._tenants.popitem(last=False)
        return tenant

    def _session(self, tenant: _Tenant, request: Request, wanted: Tier, now: float) -> _Session:
        session = tenant.sessions.get(request.session)
        if session is None:
            session = tenant.sessions[request.session] = _Session(wanted, now, request.input_tokens)
            if len(tenant.sessions) > SESSIONS:
                tenant.sessions.popitem(last=False)
        else:
            tenant.sessions.move_to_end(request.session)
            first = session.turns == 1
            session.gap += (1.0 if first else _NEW) * (now - session.at - session.gap)
            grown = max(request.input_tokens - session.tokens, 0)
            session.growth += (1.0 if first else _NEW) * (grown - session.growth)
            session.at, session.tokens = now, request.input_tokens
        session.turns += 1
        return session


def _kept(seconds: float) -> float:
    """Return how likely a prompt is still cached that will have been used so many seconds ago, about."""
    return 1 / (1 + (seconds / CACHED_S) ** SPREAD) if seconds < math.inf else 0.0


def _cost(model: Model, tokens: int, cached: int) -> float:
    """Return the dollars of a turn."""
    cached = max(cached, 0) if cached >= CACHEABLE else 0
    usage = Usage(input_tokens=tokens, cached_input_tokens=min(cached, tokens), output_tokens=OUTPUT)
    return float(pricing.cost(usage, model.price))
