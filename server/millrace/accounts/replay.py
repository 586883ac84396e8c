"""Decides past requests again under other settings, from what the ledger tells of each stage.

Each request is decided twice from the same facts: under the settings as they are, and under those that are tried. Where
both come to the same, what happened stands, to the nanodollar, whatever the reason was. Only where they differ is
something estimated: what a model would have been paid, and whether its answer would have been taken back. So a replay
without a change is the ledger.

What either caches hold is followed too: an answer that would have been stored, and was not, may be served later on; one
that would not have been is missing then.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct, field

from millrace.accounts.comparable import Comparable, Estimate, is_escalated
from millrace.accounts.figures import Figures
from millrace.accounts.promised import TriedPromise
from millrace.accounts.relearned import Relearned
from millrace.accounts.steered import Steered
from millrace.accounts.world import CacheRules, Families, World
from millrace.funnel.routing.promises import Promised
from millrace.types import (
    EMBEDDINGS,
    EVIDENCE_TENANT,
    CacheMode,
    CacheOutcome,
    LookedUp,
    Near,
    Outcome,
    Past,
    PastCall,
    Scores,
    Status,
    Strategy,
    Tier,
)

READS = (CacheMode.ON, CacheMode.ONLY)
WRITES = (CacheMode.ON, CacheMode.REFRESH)
MOST_NEW = 4  # questions of a family that may be served although nobody has compared them


class Rules(Struct, frozen=True, kw_only=True):
    """The settings that a request is decided by. `needed` is the log odds of a hit, before any steering."""

    cache: CacheRules
    needed: float
    limit: float  # of the rate of wrong hits
    promised: Promised
    checks_off: frozenset[str] = frozenset()


class Kind(StrEnum):
    """What became of a request; a model's tier is the one that was asked first."""

    EXACT = "exact"
    SEMANTIC = "semantic"
    JOINED = "joined"
    SMALL = "small"
    LARGE = "large"
    OTHER = "other"  # it is not decided again, or gets no answer


HITS = (Kind.EXACT, Kind.SEMANTIC, Kind.JOINED)


class _Side(Struct):
    """One of the two ways in which everything is decided."""

    rules: Rules
    world: World
    steered: Steered
    promise: TriedPromise | None = None  # a promise; None: requests are routed as they were
    relearned: Relearned | None = None  # None: scores are as they were


class _Decided(Struct, frozen=True):
    kind: Kind
    log_odds: float | None = None  # of a semantic hit; None: nobody has compared the two


class _Seen(Struct):
    """What is known of a question from the requests before: it may not have been looked up, or scored, again."""

    near: tuple[Near, ...] = ()
    is_hit: bool = False  # then nobody looked at others than the one that was served
    scores: Scores | None = None


class Replay(Struct):
    """One window, from its first request on. Not thread-safe."""

    comparable: Comparable
    was: _Side
    tried: _Side
    happened: Figures = field(default_factory=Figures)
    replayed: Figures = field(default_factory=Figures)
    requests: int = 0
    otherwise: int = 0
    as_they_were: int = 0
    now: float = 0.0  # Unix seconds
    _families: Families = field(default_factory=Families)
    _seen: dict[str, _Seen] = field(default_factory=dict)  # by the id of the question, or the key
    _keys: dict[str, str] = field(default_factory=dict)  # of the exact cache, by the id of the question
    _threshold: dict[str, float] = field(default_factory=dict)  # that the router went by last, by tenant
    _needed: float = 0.0

    @classmethod
    def of(
        cls,
        comparable: Comparable,
        was: Rules,
        tried: Rules,
        steered: Sequence[Steered],
        promise: TriedPromise | None = None,
        relearned: Relearned | None = None,
    ) -> "Replay":
        """Begin a replay. `steered` are the semantic cache's steering as it is promised, and as it is tried.

        `promise` is the router's promise that is tried; None: the one that was given. `relearned` is what the router
        learns under it.
        """
        replay = cls(
            comparable=comparable,
            was=_Side(was, World(was.cache), steered[0]),
            tried=_Side(tried, World(tried.cache), steered[1], promise, relearned),
        )
        replay._needed = was.needed
        return replay

    def add(self, rows: Iterable[Past]) -> None:
        """Decide requests again, the oldest first."""
        for row in rows:
            self._add(row)

    def _add(self, row: Past) -> None:
        self.now, promise = row.opened_at, self.tried.promise
        if promise is not None:
            promise.begin(row)
        self._forget_wrong()
        asked, actual = row.story.looked_up, _kind(row)
        is_request = row.strategy != EMBEDDINGS and row.tenant != EVIDENCE_TENANT
        self.requests += is_request
        if is_request:
            self._count(self.happened, row, actual, row.story.near[0].log_odds if row.story.hit else None)
        self.happened.known += row.cost
        if asked is None or actual is Kind.OTHER:
            self.as_they_were += 1
            self.replayed.known += row.cost
            if is_request:
                self._count(self.replayed, row, actual, row.story.near[0].log_odds if row.story.hit else None)
            if promise is not None and row.strategy != EMBEDDINGS:
                promise.as_it_was(row)
            return
        self._take_note(row, asked, actual)
        after = before = self._decided(row, asked, self.was)
        if self.tried.rules != self.was.rules:
            after = self._decided(row, asked, self.tried)
        relieved, spent_before = self._is_relieved(row), self.replayed.cost
        stands = after.kind in (before.kind, actual) and not (relieved and after.kind is actual)
        final = actual if stands else after.kind
        if stands:
            self.replayed.known += row.cost
            near = row.story.near[0].log_odds if row.story.hit else None
            self._count(self.replayed, row, actual, near)
        else:
            self.otherwise += 1
            if relieved and after.kind is actual:
                self._without_check(row)
            else:
                self._otherwise(row, asked, after)
        if promise is not None:
            promise.spent(row, self.replayed.cost - spent_before)
        self._learn(row, final)
        self._store(row, asked, final, stands=stands)

    def _learn(self, row: Past, final: Kind) -> None:
        """Have the router learn what became of a request that was scored."""
        scores, relearned = row.story.scores, self.tried.relearned
        if scores is not None and relearned is not None:
            tier = Tier(final.value) if final in (Kind.SMALL, Kind.LARGE) else None
            relearned.learn(row, tier, self.comparable.escalated(scores))

    def _forget_wrong(self) -> None:
        """Delete what judges have found wrong, where it was served."""
        wrong, _ = self.was.steered.until(self.now), self.tried.steered.until(self.now)
        for sample in (judged.sample for judged in wrong):
            as_it_was, needed = (
                side.rules.needed + side.steered.steering(sample.tenant, sample.scope.hex()[:16]).strictness
                for side in (self.was, self.tried)
            )
            self.was.world.remove(self._keys.get(sample.entry_id, ""), sample.entry_id)
            if needed <= as_it_was or sample.log_odds >= needed:
                self.tried.world.remove(self._keys.get(sample.entry_id, ""), sample.entry_id)

    def _take_note(self, row: Past, asked: LookedUp, actual: Kind) -> None:
        """Learn from a request what holds under any settings: what was there, and what is near."""
        story = row.story
        if asked.entry_id:
            self._keys[asked.entry_id] = asked.key
        seen = self._seen.setdefault(asked.entry_id or asked.key, _Seen())
        stored_at = self.now - (story.age_s or 0.0)
        if actual is Kind.EXACT and not self.was.world.knows(asked.key):
            for side in (self.was, self.tried):
                side.world.was_there(asked.key, stored_at)
        if story.near:
            seen.near, seen.is_hit = story.near, bool(story.hit)
            self._families.join(asked.entry_id, [near.entry_id for near in story.near])
            new = [near.entry_id for near in story.near if not self.was.world.knows_entry(near.entry_id)]
            for side in (self.was, self.tried):
                for entry_id in new:
                    side.world.entry_was_there(entry_id, stored_at if story.hit else self.now)
        if story.needed is not None:
            strictness = self.was.steered.steering(row.tenant, asked.scope).strictness
            self._needed = story.needed - strictness
        if story.scores is not None:
            seen.scores = story.scores
            self._threshold[row.tenant] = _threshold(story.scores, self.was.rules.promised)

    def _decided(self, row: Past, asked: LookedUp, side: _Side) -> _Decided:
        if asked.mode in READS and side.world.has(asked.key, self.now):
            return _Decided(Kind.EXACT)
        if row.cache is CacheOutcome.JOINED:
            return _Decided(Kind.JOINED)
        if asked.mode in READS and asked.entry_id and side.rules.cache.semantic:
            found = self._near(row, asked, side)
            if found is not None:
                return found
        if asked.mode is CacheMode.ONLY:
            return _Decided(Kind.OTHER)  # it is refused
        return _Decided(Kind(self._tier(row, side).value))

    def _near(self, row: Past, asked: LookedUp, side: _Side) -> _Decided | None:
        story, was, now = row.story, self.was, self.now
        near = story.near or self._seen[asked.entry_id].near
        steering = side.steered.steering(row.tenant, asked.scope)
        as_it_was = was.steered.steering(row.tenant, asked.scope)
        needed = self._needed + as_it_was.strictness if story.needed is None else story.needed
        needed += side.rules.needed - was.rules.needed + steering.strictness - as_it_was.strictness
        is_off = any(each.is_off for each in near) if steering.is_off == as_it_was.is_off else steering.is_off
        if is_off:
            return None
        for each in near:
            if each.log_odds >= needed and side.world.has_entry(each.entry_id, now):
                return _Decided(Kind.SEMANTIC, each.log_odds)
        if side is was:
            return None
        known, new = {each.entry_id for each in near} | {asked.entry_id}, 0
        is_gone = (  # what was served is not there, though it was in what happened: nobody looked at others then
            bool(near)
            and self._seen[asked.entry_id].is_hit
            and was.world.has_entry(near[0].entry_id, now)
            and not side.world.has_entry(near[0].entry_id, now)
        )
        for entry_id in self._families.of(asked.entry_id) if near else ():
            if entry_id in known or not side.world.has_entry(entry_id, now):
                continue
            if was.world.has_entry(entry_id, now) and not is_gone:
                continue  # it was compared, and was not near
            if _draw(asked.entry_id, entry_id) < self.comparable.served(needed):
                return _Decided(Kind.SEMANTIC)
            if (new := new + 1) >= MOST_NEW:
                break
        return None

    def _tier(self, row: Past, side: _Side) -> Tier:
        """Return whom to ask first."""
        first, scores = _first(row), row.story.scores
        if row.strategy != Strategy.AUTO:
            return first or (Tier.LARGE if row.strategy == Strategy.LARGE else Tier.SMALL)
        if scores is None and first is not None:
            return first  # it was bound to that one, or did not fit
        likely = scores or self._scores(row)
        score = 0.0 if likely is None else likely.score
        if side.promise is None:
            if scores is not None:
                return scores.tier
            return Tier.LARGE if score >= self._threshold.get(row.tenant, math.inf) else Tier.SMALL
        if likely is not None and side.relearned is not None:
            score = side.relearned.score(row, likely)
        tier = side.promise.tier(row, score)
        if scores is not None:
            wanted = Tier.LARGE if scores.score >= _threshold(scores, self.was.rules.promised) else Tier.SMALL
            if wanted is not scores.tier:  # its session held it there
                tier = scores.tier
        side.promise.routed(row, score, tier)
        return tier

    def _scores(self, row: Past) -> Scores | None:
        """Return the scores that a request that was not scored would have had: that of its question, or of any."""
        asked = row.story.looked_up
        name = "" if asked is None else asked.entry_id or asked.key
        near = [each.entry_id for each in self._seen[name].near] if name in self._seen else []
        for other in (name, *near):
            if other in self._seen and (found := self._seen[other].scores) is not None:
                return found
        scores = self.comparable.all_scores
        return scores[int(_draw(name, "score") * len(scores))] if scores else None

    def _otherwise(self, row: Past, asked: LookedUp, decided: _Decided) -> None:
        figures, kind = self.replayed, decided.kind
        if kind is Kind.OTHER:
            return
        figures.kinds[kind] += 1
        figures.answers += 1
        if kind in HITS:
            if kind is Kind.SEMANTIC:
                figures.wrong_hits += self._wrong(decided.log_odds)
            return
        tier = Tier(kind.value)
        figures.first[tier] += 1
        input_tokens = self._input_tokens(row, asked)
        of_large = next((call for call in row.calls if call.tier == Tier.LARGE and _is_answer(call)), None)
        large = Estimate(of_large.cost) if of_large else self.comparable.call(Tier.LARGE, input_tokens)
        small = self.comparable.call(Tier.SMALL, input_tokens)
        if tier is Tier.LARGE:
            self._estimate(large, 1.0)
            return
        may_escalate = row.strategy not in (Strategy.SMALL, Strategy.LARGE)
        chance = self.comparable.escalated(row.story.scores or self._scores(row)) if may_escalate else 0.0
        self._estimate(small, 1.0)
        self._estimate(large, chance)
        figures.escalated += chance
        figures.small_answers += 1 - chance

    def _estimate(self, found: Estimate | None, share: float) -> None:
        if found is not None:
            self.replayed.estimate(found, share)

    def _is_relieved(self, row: Past) -> bool:
        """Whether the check that took the small model's answer back is off in what is tried."""
        off = self.tried.rules.checks_off - self.was.rules.checks_off
        return bool(off) and is_escalated(row) and _failed_check(row) in off

    def _without_check(self, row: Past) -> None:
        """Keep the small answer that a check took back. Other checks might have, which nobody asked."""
        figures = self.replayed
        draft = next(call for call in row.calls if call.tier == Tier.SMALL)
        figures.kinds[Kind.SMALL] += 1
        figures.first[Tier.SMALL] += 1
        figures.answers += 1
        figures.small_answers += 1
        if any(judgement.tier is Tier.SMALL for judgement in row.story.judgements):  # it was whole
            figures.estimate(Estimate(draft.cost))
        else:
            self._estimate(self.comparable.call(Tier.SMALL, draft.usage.input_tokens), 1.0)

    def _input_tokens(self, row: Past, asked: LookedUp) -> int:
        first = row.calls[0].usage.input_tokens if row.calls else 0
        return first or round(asked.input_tokens * self.comparable.reported) or row.usage.input_tokens

    def _store(self, row: Past, asked: LookedUp, final: Kind, *, stands: bool) -> None:
        at = self.now + row.latency_ms / 1000
        if asked.mode not in WRITES:
            return
        entry_id = asked.entry_id
        if row.stored_id:
            self.was.world.store(asked.key, entry_id, at)
            if stands:
                self.tried.world.store(asked.key, entry_id, at)
        if not stands and final not in HITS and (row.stored_id or row.cache is not CacheOutcome.MISS):
            self.tried.world.store(asked.key, entry_id, at)

    def _count(self, figures: Figures, row: Past, kind: Kind, log_odds: float | None) -> None:
        """Count what became of a request that goes as it went."""
        if kind is Kind.OTHER:
            return
        figures.kinds[kind] += 1
        figures.answers += 1
        if kind in HITS:
            if kind is Kind.SEMANTIC:
                figures.wrong_hits += self._wrong(log_odds)
            return
        figures.first[Tier(kind.value)] += 1
        escalated = is_escalated(row)
        figures.escalated += escalated
        figures.small_answers += row.source == "small"

    def _wrong(self, log_odds: float | None) -> float:
        """Return how likely a hit is wrong, by what the decision said of it."""
        if log_odds is None:
            log_odds = self._needed
        return 1 / (1 + math.exp(max(min(log_odds, 30.0), -30.0)))


def _kind(row: Past) -> Kind:
    if row.status not in (Status.COMPLETED, Status.INCOMPLETE) or row.strategy == EMBEDDINGS:
        return Kind.OTHER
    if row.tenant == EVIDENCE_TENANT or row.source is None:
        return Kind.OTHER
    if row.cache is not CacheOutcome.MISS:
        return Kind(row.cache.value)
    first = _first(row)
    return Kind.OTHER if first is None or not any(map(_is_answer, row.calls)) else Kind(first.value)


def _first(row: Past) -> Tier | None:
    """Return whom the request was put to first, if to anybody."""
    if row.story.scores is not None and row.cache is CacheOutcome.MISS:
        return row.story.scores.tier
    return next((Tier(call.tier) for call in row.calls if call.tier in (Tier.SMALL, Tier.LARGE)), None)


def _is_answer(call: PastCall) -> bool:
    return call.outcome is Outcome.ANSWERED


def _failed_check(row: Past) -> str | None:
    judged = (judgement.check for judgement in row.story.judgements if judgement.tier is Tier.SMALL)
    return next((check for check in judged if check), row.check)


def _threshold(scores: Scores, promised: Promised) -> float:
    """Return the score from which on the large model was asked first. One that is not finite is in no row."""
    if scores.threshold is not None:
        return scores.threshold
    is_always = promised.keep_quality is not None or (promised.large_share or 0) >= 1
    return -math.inf if is_always and scores.tier is Tier.LARGE else math.inf


def _draw(one: str, other: str) -> float:
    """Return a number from 0 to 1 that looks drawn, and is the same each time."""
    digest = hashlib.blake2b(f"{one} {other}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
