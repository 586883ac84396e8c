"""A stream of questions through what the semantic cache has learned and the plane that judges it.

All of it is real but for what answers: a question's answer is its intent, and judges err as often as they are told.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from millrace.caches.decider import Chosen
from millrace.caches.decision.mix import Weights
from millrace.caches.learning.knowledge import Guidance, Knowledge, log_odds_of
from millrace.caches.partition import Stored
from millrace.evidence.evidence import Evidence, Shares
from millrace.evidence.judging import Panel
from millrace.evidence.rates import first_errors, rate
from millrace.evidence.trust import Trust
from millrace.ports import AnswerJudge
from millrace.types import (
    Change,
    Judged,
    Lever,
    Message,
    Rate,
    Request,
    Says,
    SemanticMiss,
    StoredAnswer,
    Strategy,
    Usage,
)
from tests.support import scripted_models

SCOPE, TENANT = b"scope", "tenant"
AT_ONCE = 128  # samples that wait
LOOK_S = 0.0005
EXACT, REFUSED, MISS, OFF, RIGHT, WRONG = "exact", "refused", "miss", "off", "right", "wrong"

Found = Chosen | SemanticMiss
Decide = Callable[[str, list[tuple[float, Stored]], Guidance], Found]


@dataclass(frozen=True, slots=True)
class World:
    """Questions, and how the cache finds and weighs them."""

    intents: dict[str, str]  # by question
    is_reusable: Callable[[str], bool]
    near: Callable[[str, Callable[[str], bool]], list[tuple[float, str]]]  # of those that are stored, the best first
    decide: Decide
    weights: Weights


class MemoryStore:
    """Implements `ports.EvidenceStore`."""

    def __init__(self) -> None:
        self.rows: list[Judged] = []
        self.changes: list[Change] = []

    async def add(self, judged: Sequence[Judged], changes: Sequence[Change] = ()) -> None:
        """Keep it."""
        self.rows += judged
        self.changes += changes

    async def judged(self, lever: Lever | None, since: float, most: int, tenant: str | None = None) -> list[Judged]:
        """Return what is kept."""
        return [each for each in self.rows if lever in (None, each.sample.lever) and each.sample.taken_at >= since]

    async def steered(self) -> list[Change]:
        """Return all changes."""
        return self.changes


class ErringJudge:
    """Compares the texts, and is wrong now and then."""

    def __init__(self, name: str, errs: float, chance: random.Random) -> None:
        self.name = name
        self.asked = 0
        self._errs = errs
        self._chance = chance

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return whether the texts are equal, or the other."""
        self.asked += 1
        return Says.SAME if (earlier == fresh) ^ (self._chance.random() < self._errs) else Says.DIFFERENT


@dataclass(slots=True)
class Stream:
    """Asks random questions of intents whose frequencies are Zipf's. Entries live for half as many as there are texts.

    A `change` of an answer is told of each intent: from a request on, its answer is another one.
    """

    world: World
    seed: int
    requests: int = 20_000
    learns: bool = True
    hit_share: float = 0.1
    eagerness: float = 2.5
    checked_share: float = 0.02
    errs: float = 0.05
    changes: dict[str, int] = field(default_factory=dict)  # the request from which on an intent has another answer
    outcomes: list[str] = field(default_factory=list)  # of each request
    store: MemoryStore = field(default_factory=MemoryStore)
    removed: list[tuple[float, str]] = field(default_factory=list)  # when, and the question of the entry
    judges: list[ErringJudge] = field(default_factory=list)
    knowledge: Knowledge = field(init=False)
    trust: Trust = field(init=False)
    _now: int = 0
    _exact: dict[str, tuple[int, str]] = field(default_factory=dict)
    _stored: dict[str, tuple[int, Stored]] = field(default_factory=dict)  # by question

    def __post_init__(self) -> None:
        self.knowledge = Knowledge(self.world.weights)
        needed = log_odds_of(self.world.weights.threshold)
        self.trust = Trust(self.knowledge, limit=0.01, needed=needed, eagerness=self.eagerness)
        chance = random.Random(f"judges {self.seed}")
        self.judges = [ErringJudge("quick", self.errs, chance), ErringJudge("sure", 0.0, chance)]

    def texts(self) -> Iterator[str]:
        """Yield the questions in order."""
        chance = random.Random(self.seed)
        said: dict[str, list[str]] = {}
        for text, intent in self.world.intents.items():
            said.setdefault(intent, []).append(text)
        intents = sorted(said)
        chance.shuffle(intents)
        often = [1 / (at + 1) for at in range(len(intents))]
        for intent in chance.choices(intents, often, k=self.requests):
            yield chance.choice(said[intent])

    async def run(self) -> "Stream":
        """Ask all of it."""
        judges: list[AnswerJudge] = [*self.judges]
        evidence = Evidence(
            self.store,
            Panel(judges, self.checked_share, random.Random(f"panel {self.seed}")),
            self.trust,
            self._ask_again,
            self._remove,
            Shares(hits=self.hit_share, small=0.0, large=0.0),
            wall=lambda: float(self._now),
            chance=random.Random(f"samples {self.seed}"),
            gather_s=0.0,
        )
        judging = asyncio.create_task(evidence.run())
        asked = {
            text: scripted_models.request(Message(role="user", parts=(text,)), tenant=TENANT)
            for text in self.world.intents
        }
        for now, text in enumerate(self.texts()):
            self._now = now
            self.outcomes.append(self._outcome(text, asked[text], evidence if self.learns else None))
            while evidence.waiting >= AT_ONCE:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK_S)
        while evidence.waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_S)
        judging.cancel()
        return self

    def answer(self, text: str) -> str:
        """Return what a model answers now."""
        intent = self.world.intents[text]
        return intent if self._now < self.changes.get(intent, self.requests) else f"{intent} today"

    def _outcome(self, text: str, asked: Request, evidence: Evidence | None) -> str:
        if self._is_fresh(self._exact.get(text)):
            return EXACT
        fresh = self.answer(text)
        found = self._found(text) if self.world.is_reusable(text) else None
        if isinstance(found, Chosen):
            served = msgspec.json.decode(found.entry.answer, type=StoredAnswer).text
            if evidence is not None:
                evidence.hit(asked, SCOPE, found.near)
            return RIGHT if served == fresh else WRONG
        self._exact[text] = (self._now, fresh)
        if found is None:
            return REFUSED
        if evidence is not None:
            evidence.near_miss(asked, SCOPE, found.near, fresh)
        answer = StoredAnswer(text=fresh, model_id="", usage=Usage(), check=None, stored_at=float(self._now))
        self._stored[text] = (self._now, Stored(text, text, msgspec.json.encode(answer), float(self._now)))
        return OFF if any(each.is_off for each in found.near) else MISS

    def _found(self, text: str) -> Found:
        near = self.world.near(text, lambda other: self._is_fresh(self._stored.get(other)))
        aliases = self.knowledge.aliases(SCOPE, text, lambda other: self._is_fresh(self._stored.get(other)))
        candidates = [(1.0, each) for each in aliases] + [each for each in near if each[1] not in aliases]
        if not candidates:
            return SemanticMiss(reason="nothing near", similarity=None)
        entries = [(similarity, self._stored[other][1]) for similarity, other in candidates]
        return self.world.decide(text, entries, self.knowledge.guidance(TENANT, SCOPE, text))

    def _is_fresh(self, kept: tuple[int, object] | None) -> bool:
        return kept is not None and self._now - kept[0] < len(self.world.intents) // 2

    async def _ask_again(self, request: Request, strategy: Strategy | None = None) -> str | None:
        return self.answer(request.prompt.messages[-1].text)

    async def _remove(self, tenant: str, entry_ids: Sequence[str]) -> None:
        for each in entry_ids:
            self.removed.append((float(self._now), each))
            self._stored.pop(each, None)
            self._exact.pop(each, None)

    def plant(self, text: str, answer: str) -> None:
        """Put an answer into the cache, whatever it says."""
        stored = StoredAnswer(text=answer, model_id="", usage=Usage(), check=None, stored_at=float(self._now))
        self._stored[text] = (self._now, Stored(text, text, msgspec.json.encode(stored), float(self._now)))

    def counts(self, begin: int = 0, end: int | None = None) -> Counter[str]:
        """Return how often each outcome came of the requests from one to another."""
        return Counter(self.outcomes[begin:end])

    def printed(self, begin: int, end: int) -> Rate:
        """Return the rate of wrong hits that is shown of a period: of what was sampled in it, all that is known."""
        known = [each for each in self.store.rows if each.sample.taken_at < end]
        hits = [
            each
            for each in known
            if each.sample.lever is Lever.SEMANTIC and each.sample.taken_at >= begin and each.sample.probability < 1
        ]
        return rate(hits, first_errors(known))


def hit_rate(counts: Counter[str]) -> float:
    """Return the share of semantic hits among what was not an exact one."""
    return (counts[RIGHT] + counts[WRONG]) / max(1, counts.total() - counts[EXACT])


def wrong_rate(counts: Counter[str]) -> float:
    """Return the share of the semantic hits that were wrong."""
    return counts[WRONG] / max(1, counts[RIGHT] + counts[WRONG])
