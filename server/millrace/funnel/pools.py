"""The deployments of one model: which of them gets a call, and which is left alone.

The one with the least to do is asked, by weight. A session, or a long system prompt, stays with the deployment that it
has been to, since prompts are cached there, as long as that has not much more to do than its share (V. Mirrokni et al.,
Consistent Hashing with Bounded Loads, 2018).
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Sequence
from typing import Protocol

from millrace.errors import RULES, UpstreamError
from millrace.funnel.breaker import Breaker
from millrace.ports import Attempt, Clock, Upstream
from millrace.types import Call, Deployment, Finish, Message, Model, Prompt

OVER = 1.25  # of its share of the load that a deployment may have, and some calls more, and still keep its sessions
SLACK = 4.0  # these calls
MOST_KEPT = 10_000  # sessions and prompts whose deployment is remembered
RETRIES, RETRY_SHARE = 100.0, 0.2  # retries in store, at most, and how much of one each request adds
SILENT_S = 5.0  # without the first word of any of its calls, at least, before a deployment counts as silent
SILENT_CALLS = 3  # that wait for their first word then, at least
TIMES_SLOWEST = 2.0  # of the slowest first words lately, at least
FIRST_WORDS, ENOUGH = 64, 8  # the latest ones; fewer do not tell what is slow
PROBE = Prompt(messages=(Message(role="user", parts=("Answer with one word: ready",)),), max_output_tokens=16)
SOON_MS = 1000  # when to come again, at the earliest, where no deployment takes a call
PROBE_S = (1.0, 10.0)  # that a probe may take: at least, and where it is not known how long a first word takes


class Waiting(Protocol):
    """A call that has no word yet, and can be made elsewhere."""

    is_paused: bool  # it is not read, so that it cannot have one

    def move(self, error: UpstreamError) -> None:
        """Go elsewhere, if there is anybody else to ask."""
        ...


class Place:
    """A deployment while it runs."""

    def __init__(self, model: Model, deployment: Deployment, upstream: Upstream, clock: Clock) -> None:
        self.model = model
        self.deployment = deployment
        self.upstream = upstream
        self.breaker = Breaker(clock)
        self.running = 0  # calls
        self.turn = 0.0  # from which on it is its turn again, where nobody has more to do than others
        self.waiting: dict[Waiting, float] = {}  # calls without a word yet, and since when they are read
        self.spoke_at = -math.inf  # when a call last had its first word
        self.probe: tuple[Attempt, float] | None = None  # one that runs, and since when
        self.error: UpstreamError | None = None  # the last one

    @property
    def name(self) -> str:
        """What clients and logs are told: the model, and where it is if it has several deployments."""
        return f"{self.model.id} at {self.deployment.label}" if self.deployment.label else self.model.id

    def named(self, error: UpstreamError) -> UpstreamError:
        """Return an error of it whose message says which of several deployments it is."""
        if not self.deployment.label:
            return error
        rest = error.message.removeprefix(self.model.id)
        return UpstreamError(
            error.code,
            f"{self.name}{rest}" if rest != error.message else f"{self.name}: {rest}",
            retry_after_ms=error.retry_after_ms,
            rule=error.rule,
            cause=error.cause,
        )


class Pool:
    """One model and its deployments."""

    def __init__(self, model: Model, deployments: Sequence[tuple[Deployment, Upstream]], clock: Clock) -> None:
        self.model = model
        self.places = [Place(model, deployment, upstream, clock) for deployment, upstream in deployments]
        self._clock = clock
        self._weight = sum(place.deployment.weight for place in self.places)
        self._kept: OrderedDict[Hashable, Place] = OrderedDict()
        self._turn = 0.0  # of the last call
        self._retries = RETRIES
        self.input_tokens = self.cached_input_tokens = 0  # of its answers, and those read from the provider's cache
        self._first_words: deque[float] = deque(maxlen=FIRST_WORDS)  # seconds until they came

    def take_over(self, before: "Pool") -> None:
        """Go on from what is known of the same model. A deployment that stays is the one that was there before."""
        if before.model.id != self.model.id:
            return
        stays = {place.upstream: place for place in before.places}
        for at, place in enumerate(self.places):
            if (same := stays.get(place.upstream)) is not None:
                same.model, same.deployment = place.model, place.deployment
                self.places[at] = same
        self._turn, self._retries, self._first_words = before._turn, before._retries, before._first_words
        self._kept = OrderedDict((key, place) for key, place in before._kept.items() if place in self.places)

    @property
    def can_be_asked(self) -> bool:
        """Whether a deployment takes calls."""
        return any(place.breaker.is_closed for place in self.places)

    def choose(
        self, key: Hashable | None, but: Collection[Place] = (), other_than: str = "", *, is_bound: bool = False
    ) -> Place | None:
        """Return the deployment for a call; None if no one but those of `but` takes any.

        `key` is what should stay with its deployment, `is_bound` that it should however much that has to do.
        `other_than` is the label of one that is taken only if there is no other.
        """
        able = [place for place in self.places if place.breaker.is_closed and place not in but]
        able = [place for place in able if place.deployment.label != other_than] or able if other_than else able
        if not able:
            return None
        if len(self.places) == 1:
            return able[0]
        best = min(able, key=self._load)
        if key is None or other_than:  # what is asked beside another one moves nothing
            return best
        kept = self._kept.get(key)
        if kept is None or kept not in able or not (is_bound or self._has_room(kept)):
            kept = best
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    def take(self, place: Place) -> None:
        """Count a call that a deployment has got."""
        place.running += 1
        self._turn = max(self._turn, place.turn)
        place.turn = self._turn + 1 / place.deployment.weight

    def _load(self, place: Place) -> tuple[float, float]:
        """Return what a deployment has to do, by its weight, and when it is its turn (start-time fair queueing)."""
        return place.running / place.deployment.weight, max(self._turn, place.turn)

    def _has_room(self, place: Place) -> bool:
        total = sum(each.running for each in self.places) + 1
        return place.running + 1 <= OVER * total * place.deployment.weight / self._weight + SLACK

    def earn(self) -> None:
        """Add to the retries in store: a request has come."""
        self._retries = min(RETRIES, self._retries + RETRY_SHARE)

    @property
    def has_retry(self) -> bool:
        """Whether a retry is left in store."""
        return self._retries >= 1

    def spend(self) -> None:
        """Take a retry out of the store."""
        self._retries = max(0.0, self._retries - 1)

    def spoke(self, place: Place, began_at: float) -> None:
        """Note the first word of a call."""
        place.spoke_at = self._clock()
        self._first_words.append(place.spoke_at - began_at)

    @property
    def _slowest_s(self) -> float:
        """Seconds that the slowest first word has taken lately; infinite if too few are known."""
        return max(self._first_words) if len(self._first_words) >= ENOUGH else math.inf

    def silent_s(self, place: Place) -> float:
        """Return for how many seconds a deployment has been silent, if that is much longer than its calls take; or 0.

        Calls wait for their first word, and none has had one since. Those from before its last probe do not count.
        """
        calls = [since for call, since in place.waiting.items() if not call.is_paused]
        waiting = [since for since in calls if since >= place.breaker.closed_at]
        if len(waiting) < SILENT_CALLS:
            return 0.0
        silent_s = self._clock() - max(min(waiting), place.spoke_at)
        return silent_s if silent_s > self.patience_s else 0.0

    @property
    def patience_s(self) -> float:
        """Seconds after which a first word is much later than it should be."""
        return max(SILENT_S, TIMES_SLOWEST * self._slowest_s)

    @property
    def probe_s(self) -> float:
        """Seconds that a probe may take, to its end: a deployment may also stop in mid-stream."""
        least, unknown = PROBE_S
        return max(least, 2 * TIMES_SLOWEST * self._slowest_s) if self._slowest_s < math.inf else unknown

    def open_probe(self, place: Place) -> None:
        """Start a probe: the cheapest request that shows whether the model answers. What it costs is in no ledger."""
        call = Call(model=self.model, prompt=PROBE, deployment=place.deployment.label, once=True)
        attempt = place.upstream.open(call)
        attempt.done.add_done_callback(_take_note)
        place.probe = attempt, self._clock()

    def unavailable(self) -> UpstreamError:
        """Return why no deployment takes a call."""
        left_alone = [place for place in self.places if not place.breaker.is_closed]
        message = "; ".join(f"{place.name} {place.breaker.why}" for place in left_alone)
        last = next((place.error for place in left_alone if place.error is not None), None)
        left_s = min((place.breaker.left_s for place in left_alone), default=0.0)
        rule = RULES["upstream_overloaded"] if last is None else last.rule
        return UpstreamError(
            "upstream_overloaded" if last is None else last.code,
            message or f"{self.model.id} takes no further call for this request",
            billable=False,
            retry_after_ms=max(SOON_MS, round(left_s * 1000)) if rule.retry else None,
            rule=rule,
            cause=message.removeprefix(f"{self.model.id} "),
        )


def _take_note(done: asyncio.Future[Finish]) -> None:
    """Read the error of a probe that nobody looks at any more, or asyncio logs it."""
    if not done.cancelled():
        done.exception()
