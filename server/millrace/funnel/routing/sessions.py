"""Routes the turns of a session together: by what each model costs for a turn, with what the other turns say of it.

A provider keeps a prompt in its cache for some minutes, and what is read from there costs a fraction. So the price of a
turn depends on who was asked when, and on what later turns will want (`warmth.py`). The threshold is the gain that pays
for what the large model costs more on an average turn if both caches are warm. Where it costs more than that in all, a
higher score is needed, where it costs less, a lower one does, and where it saves it is asked outright: to go on with a
warm history, or to keep it warm.

The turns before count too (`runs.py`). A session goes up at once, and stays for a turn more, if a tool has failed, a
call repeats, small answers fail their checks, or its history is nearly too long for the small model.

Where a promise of quality rests on the threshold, no session is kept below what the router wants. What binds a request
to one model (`pins.py`) comes before the router, and so before this.
"""

import math
from collections import OrderedDict

from msgspec import Struct, field

from millrace import pricing
from millrace.funnel.catalog import Catalog
from millrace.funnel.prefixes import KEPT_S as CACHED_S
from millrace.funnel.routing.features import is_call_repeated, last_tool_failed
from millrace.funnel.routing.promises import Threshold
from millrace.funnel.routing.runs import Run, Runs
from millrace.funnel.routing.warmth import Warmth, of_scores, of_wants
from millrace.ports import Clock
from millrace.types import Model, Request, Tier, Usage

TENANTS, SESSIONS = 256, 512  # that are known at once; sessions of each tenant, about 500 bytes each
CACHEABLE = 1024  # tokens; shorter prompts are not cached
ESCALATED = 2  # small answers in a row that failed their checks, until the session goes up
NEARLY = 0.75  # of what fits the small model: as much as a few turns with tools bring
DEARER = 6.0  # times the threshold, that a score must reach at most
OUTPUT = 400  # tokens of an answer, about
GAP_S, SHORTEST_S = 60.0, 1.0  # between two turns, until a session has two; at least
LONG = 19  # turns after which a session is not taken to last longer than that
_NEW = 0.3  # how much of a running mean comes from the last turn
LAST = 2000  # turns of a tenant that a mean is of: of many sessions, since a history grows through each
TROUBLE = 2  # turns that a session stays up for, after trouble
_WANTED, _SEEN = 0.3, 4.0  # how often the large model is wanted, in so many turns that are taken to have been
STAYS = "the session stays: its history is in the large model's prompt cache"
CHEAP = "the large model costs little more than the small one for this turn"
DEAR = "the session stays: to bring its history to the large model costs too much"


class _Session(Struct):
    tier: Tier
    at: float
    tokens: int  # of its last prompt
    turns: int = 0
    trouble: int = 0  # turns for which it stays up, after trouble that was a reason to go up
    escalated: int = 0  # small answers in a row that failed their checks
    up: int = 0  # turns for which the large model was wanted
    gap: float = GAP_S  # seconds between two turns: a running mean
    run: Run = field(default_factory=Run)
    warmth: Warmth = field(default_factory=Warmth)
    used: dict[Tier, tuple[float, int]] = field(default_factory=dict)  # when a model was asked last, and how much
    had: int = 0  # tokens of the prompt before its last one

    @property
    def wanted(self) -> float:
        """How often the large model is wanted for a turn."""
        return (self.up + _SEEN * _WANTED) / (self.turns + _SEEN)

    @property
    def goes_on(self) -> float:
        """How likely one more turn follows: a session is taken to last as long as it has lasted."""
        return min(self.turns, LONG) / (min(self.turns, LONG) + 1)


class _Tenant(Struct):
    runs: Runs = field(default_factory=Runs)
    sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)  # the oldest first
    turns: int = 0  # that the mean is of
    extra: float = 0.0  # dollars that a turn costs more at the large model if it is warm: a mean


class Sessions:
    """The sessions of all tenants. A look takes some microseconds."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        """`clock` in seconds."""
        self.catalog = catalog  # may change at any time
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
        tier, reason = wanted, ""
        session.up += wanted is Tier.LARGE or bool(why)
        session.trouble = TROUBLE if why else session.trouble - 1
        weighed = self._weighed(tenant, session, request, wanted, score, threshold, now)
        if threshold is not None and not threshold.escalates:
            pass  # nothing but the cheapest way is paid for
        elif why:
            tier, reason = Tier.LARGE, "" if wanted is Tier.LARGE else why
        elif session.trouble > 0:
            tier, reason = Tier.LARGE, "" if wanted is Tier.LARGE else "the session stays at the large model for now"
        elif session.turns > 1:
            tier, reason = weighed
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
        """Return whom to ask at the prices of this turn, and why if it is not who is wanted."""
        small, large = self.catalog.models
        tokens, had = request.input_tokens, session.had
        of_small = _cost(small, tokens, had)
        warm, cold = _cost(large, tokens, had) - of_small, _cost(large, tokens, 0) - of_small
        tenant.turns = min(tenant.turns + 1, LAST)
        tenant.extra += (warm - tenant.extra) / tenant.turns
        runs = tenant.runs
        expected = score if score is None else runs.expected(session.run, score)
        dollars = 0.0  # of a gain of 1; 0: no score says what is gained
        if expected is not None and threshold is not None and not threshold.binds:
            dollars = max(tenant.extra, 0.0) / threshold.value if 0 < threshold.value < math.inf else 0.0
        gained = of_scores(runs.mean, math.sqrt(runs.square), dollars) if dollars else of_wants(session.wanted)
        warmth, gap, goes_on = session.warmth, max(session.gap, SHORTEST_S), session.goes_on
        warmth.step(gap, warm, cold, gained, goes_on)
        age = now - session.used[Tier.LARGE][0] if Tier.LARGE in session.used else math.inf
        needed = (warm if age < CACHED_S else cold) - self._small_is_cold(session, small, tokens, now)
        needed -= goes_on * (warmth.after(0.0, gap) - warmth.after(age, gap))
        if needed <= 0:
            tier = Tier.LARGE
        elif not dollars or expected is None or threshold is None:
            tier = wanted
        else:
            tier = Tier.LARGE if expected >= min(needed / dollars, DEARER * threshold.value) else Tier.SMALL
        if tier is wanted:
            return tier, ""
        return tier, DEAR if tier is Tier.SMALL else CHEAP if needed > 0 else STAYS

    def _small_is_cold(self, session: _Session, small: Model, tokens: int, now: float) -> float:
        """Return how many dollars more the small model costs since its cache is cold; 0 while it is warm."""
        if Tier.SMALL in session.used and now - session.used[Tier.SMALL][0] < CACHED_S:
            return 0.0
        return _cost(small, tokens, 0) - _cost(small, tokens, session.had)

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
            session.gap += (1.0 if session.turns == 1 else _NEW) * (now - session.at - session.gap)
            session.had = session.tokens
            session.at, session.tokens = now, request.input_tokens
        session.turns += 1
        return session


def _cost(model: Model, tokens: int, cached: int) -> float:
    """Return the dollars of a turn."""
    cached = max(cached, 0) if cached >= CACHEABLE else 0
    usage = Usage(input_tokens=tokens, cached_input_tokens=min(cached, tokens), output_tokens=OUTPUT)
    return float(pricing.cost(usage, model.price))
