"""Keeps a session at the large model where that is better or cheaper than to go back to the small one.

A provider keeps a prompt in its cache for some minutes, and what is read from there costs a fraction. Whoever leaves a
model and comes back later pays the whole history at the full price. So a switch is made only if it pays with that.

A session goes up at once if a tool has failed, a call repeats, small answers fail their checks, or its history is
nearly too long for the small model; and if the router wants it, but where its history is not in the large model's cache
a higher score is needed, for some turns at most. It comes down slowly: after some turns in a row for which the small
model would do, if it costs less to go and to come back than to stay.

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
from millrace.ports import Clock
from millrace.types import Model, Request, Tier, Usage

TENANTS, SESSIONS = 256, 512  # that are known at once; sessions of each tenant, about 500 bytes each
CACHED_S = 300.0  # for which providers keep a prompt in their cache after its last use
CACHEABLE = 1024  # tokens; shorter prompts are not cached
DOWN_AFTER = 2  # turns in a row for which the small model would do
ESCALATED = 2  # small answers in a row that failed their checks, until the session goes up
NEARLY = 0.75  # of what fits the small model: as much as a few turns with tools bring
RUN = 3  # turns that a session stays up, about: what going up costs is divided among them
DEARER = 3.0  # times the threshold, that a score must reach at most
WAITS = 4  # turns that a session is kept below what the router wants, until it goes up
OUTPUT = 400  # tokens of an answer, about
GAP_S = 60.0  # between two turns, until a session has two
_NEW, _NEW_COST = 0.3, 0.02  # how much of a running mean comes from the last turn
_RISES, _SEEN = 0.2, 4.0  # how often the large model is wanted after a turn without; as if seen in so many turns


@dataclass(slots=True)
class _Session:
    tier: Tier
    at: float
    tokens: int  # of its last prompt
    turns: int = 0
    waited: int = 0  # turns since it was last up that it was kept below what the router wants
    unwanted: int = 0  # turns in a row for which the small model would do
    escalated: int = 0  # small answers in a row that failed their checks
    easy: float = _SEEN  # turns after one for which the small model would do, with those assumed
    rose: float = _SEEN * _RISES  # those of them for which the large one is wanted
    last_was_easy: bool = False
    gap: float = GAP_S  # seconds between two turns: a running mean
    growth: float = 0.0  # tokens from turn to turn: a running mean
    used: dict[Tier, tuple[float, int]] = field(default_factory=dict)  # when a model was asked last, and how much


@dataclass(slots=True)
class _Tenant:
    sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)  # the oldest first
    going_up: float | None = None  # dollars that a turn costs more which goes up: a running mean


class Sessions:
    """The sessions of all tenants. A look takes some microseconds."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        """`clock` in seconds."""
        self._catalog = catalog
        self._clock = clock
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
        is_up = wanted is Tier.LARGE or bool(why)
        tier, reason = wanted, ""
        if is_up and not why and self._is_dear(tenant, session, request, score, threshold, now):
            session.waited += 1
            is_up, tier = False, Tier.SMALL
            reason = "the session stays: to bring its history to the large model costs too much"
        elif is_up:
            session.waited = session.unwanted = 0
            tier, reason = Tier.LARGE, "" if wanted is Tier.LARGE else why
        elif session.tier is Tier.LARGE:
            session.unwanted += 1
            if session.unwanted < DOWN_AFTER:
                tier, reason = Tier.LARGE, "the session stays at the large model for now"
            elif not self._pays(session, request.input_tokens, now):
                tier, reason = Tier.LARGE, "the session stays: its history is in the large model's prompt cache"
        if session.last_was_easy:
            session.easy += 1
            session.rose += is_up
        session.last_was_easy = not is_up
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
        if not self._catalog.fits_small(math.ceil(request.input_tokens / NEARLY)):
            return f"up: its history is nearly too long for {self._catalog.small.id}"
        return ""

    def _is_dear(
        self,
        tenant: _Tenant,
        session: _Session,
        request: Request,
        score: float | None,
        threshold: Threshold | None,
        now: float,
    ) -> bool:
        """Whether going up costs so much more than it does on average that the score is too low for that.

        The threshold is the gain at which an average switch pays; a dearer one needs more.
        """
        if session.turns == 1 or score is None or threshold is None:
            return False
        tokens, growth = request.input_tokens, round(session.growth)
        small, large = self._catalog.models
        first = _cost(large, tokens, self._cached(session, Tier.LARGE, now))
        first -= _cost(small, tokens, self._cached(session, Tier.SMALL, now))
        later = _cost(large, tokens, tokens - growth) - _cost(small, tokens, tokens - growth)
        extra = (first + (RUN - 1) * later) / RUN
        usual = tenant.going_up
        tenant.going_up = extra if usual is None else usual + _NEW_COST * (extra - usual)
        may_wait = session.tier is Tier.SMALL and session.waited < WAITS and not threshold.binds
        if not may_wait or usual is None or usual <= 0 or not 0 < threshold.value < math.inf:
            return False
        return score < threshold.value * min(max(extra / usual, 1.0), DEARER)

    def _pays(self, session: _Session, tokens: int, now: float) -> bool:
        """Whether it costs less to go down, until the large model is wanted again, than to stay."""
        small, large = self._catalog.models
        rest = max(session.turns, 2)  # of the session, in turns: as many as there were
        rises = session.rose / session.easy
        turns = min(1 / rises, rest)  # until the large model is wanted again
        returns = 1 - (1 - rises) ** rest
        growth = round(session.growth)
        is_kept = session.gap < CACHED_S
        at_large, at_small = (_cost(model, tokens, tokens - growth if is_kept else 0) for model in (large, small))
        on_return = _cost(large, tokens, tokens - round(growth * turns) if session.gap * turns < CACHED_S else 0)
        stay = _cost(large, tokens, self._cached(session, Tier.LARGE, now)) + (turns - 1 + returns) * at_large
        go = _cost(small, tokens, self._cached(session, Tier.SMALL, now)) + (turns - 1) * at_small + returns * on_return
        return go < stay

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


def _cost(model: Model, tokens: int, cached: int) -> float:
    """Return the dollars of a turn."""
    cached = max(cached, 0) if cached >= CACHEABLE else 0
    usage = Usage(input_tokens=tokens, cached_input_tokens=min(cached, tokens), output_tokens=OUTPUT)
    return float(pricing.cost(usage, model.price))
