"""Takes samples of what the funnel does, has them judged, and passes on what follows. No request waits for it.

The funnel calls it and goes on: what it is told waits in a bounded queue, and is left out where that is full. One task
works through the queue while few requests run. What was judged is on disk before anybody learns it or is shown it, and
the disk keeps a sample once. What waits or is being judged when the process dies is lost, and was never counted.
"""

import asyncio
import random
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace import log
from millrace.beat import beat
from millrace.evidence.judging import Panel
from millrace.evidence.trust import Trust, wrong_entries
from millrace.ports import AskAgain, Clock, EvidenceStore, Student
from millrace.types import (
    PASSED,
    CacheMode,
    Change,
    Judged,
    Lever,
    NearAnswer,
    Opinion,
    Rating,
    Request,
    Sample,
    Says,
    Source,
    StoredAnswer,
    Strategy,
    Verdict,
)

WAITING = 256  # samples
WAITING_BYTES = 8 * 2**20  # of their answers
REMEMBERED = 10_000  # judged samples of each lever that a start reads: of one there may be many more than of others
BATCH = 64  # samples that are stored together at most
HITS = 1000  # the last ones, of which feedback may teach something
HIT_BYTES = 4000  # of a hit that is known, with its features, about
FEEDBACK = "feedback"  # the judge, where a person has spoken
GATHER_S = 1.0  # for which samples wait for others: together they take less time
ASKING = 4  # answers that a batch asks for, since all of it waits for the slowest one
FOLLOW_S = 0.5  # between two looks at how other workers steer
LATE_S = 10.0  # that a change may take to the disk
CHANGES = 1000  # of these seconds, that are heeded
BUSY_S = 0.05  # between two looks whether few requests run
KNOWN = 2 * REMEMBERED  # samples of pairs of questions whose ids are kept, more than other replicas tell once more

Found = Callable[[Sequence[Judged], Sequence[Change]], None]


class Shares(Struct, frozen=True, kw_only=True):
    """With what probability answers are asked for once more."""

    hits: float
    small: float
    large: float


class _Waiting(Struct, frozen=True):
    """A sample, and the two answers; one may be still to be asked for."""

    sample: Sample
    request: Request
    earlier: str
    fresh: str | None = None  # None: to be asked for
    strategy: Strategy | None = None  # by which it is asked for; None: that of the request

    @property
    def size(self) -> int:
        return len(self.earlier) + len(self.fresh or "") + self.request.memory_bytes


class Evidence:
    """What the funnel tells of its answers."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        store: EvidenceStore,
        panel: Panel,
        trust: Trust,
        ask: AskAgain,
        remove: Callable[[str, Sequence[str]], Awaitable[object]],  # stored answers of a tenant, from all caches
        shares: Shares,
        *,
        wall: Clock,
        is_busy: Callable[[], bool] = lambda: False,
        chance: random.Random | None = None,
        gather_s: float = GATHER_S,
        students: Sequence[Student] = (),  # who learn from it, beside the semantic cache
        measured: Callable[[Request, str], Awaitable[Verdict]] | None = None,  # by all checks: a small answer
        keeps_others: bool = True,  # what other replicas have found; False: it is in the store already
    ) -> None:
        self.left_out = 0  # samples, because too much waited
        self.tell: Found = lambda _, __: None  # told of what is on disk: other replicas learn it too
        self._store = store
        self._panel = panel
        self._trust = trust
        self._ask = ask
        self._remove = remove
        self._shares = shares
        self._wall = wall
        self._is_busy = is_busy
        self._gather_s = gather_s
        self._students = students
        self._measured = measured
        self._keeps_others = keeps_others
        self._chance = chance or random.Random()
        self._waiting: deque[tuple[int, _Waiting]] = deque()  # with its bytes
        self._bytes = 0
        self._hits: OrderedDict[tuple[str, str], Sample] = OrderedDict()  # by tenant and response
        self._rated: list[Judged] = []  # by people
        self._at_work = 0  # samples that are judged now
        self._found: tuple[list[Judged], list[Change]] | None = None  # what is still to be written
        self._wrong: dict[str, list[str]] = {}  # entries that are still to be removed, by tenant
        self._trusting = asyncio.Lock()  # `Trust` is not thread-safe
        self._heeded: set[Change] = set()  # of the last seconds
        self._steered_at: dict[tuple[str, bytes], float] = {}  # by tenant and scope
        self._known: dict[str, None] = {}  # ids of samples that were learned; the oldest first
        self._more = asyncio.Event()

    def renew(self, panel: Panel, shares: Shares, limit: float, needed: float) -> None:
        """Take samples with other probabilities, for other judges, to keep another promise (`Trust`)."""
        self._panel, self._shares = panel, shares
        self._trust.limit, self._trust.needed = limit, needed

    @property
    def waiting(self) -> int:
        """The number of samples that are still to be judged."""
        return len(self._waiting) + self._at_work

    @property
    def bytes_used(self) -> int:
        """Bytes of what waits, and of the hits that are known, about."""
        return self._bytes + HIT_BYTES * len(self._hits)

    @property
    def judged_bytes(self) -> int:
        """Bytes of what is remembered of judged hits, about."""
        return self._trust.bytes_used

    def near_miss(self, request: Request, scope: bytes, near: Sequence[NearAnswer], fresh: str) -> None:
        """Take stored answers that were not served, and the model's, to be compared. It costs no call."""
        if not request.evidence:
            return
        for each in near:
            lever = Lever.SEMANTIC if each.is_off else Lever.NEAR_MISS
            sample = self._of_pair(lever, request, scope, each, 1.0)
            self._add(_Waiting(sample, request, _text(each), fresh))

    def hit(self, request: Request, scope: bytes, near: NearAnswer) -> None:
        """Take a hit with the probability that its scope needs; the question is asked once more then."""
        if not request.evidence:
            return
        share = self._trust.share(request.tenant, scope, self._shares.hits)
        sample = self._of_pair(Lever.SEMANTIC, request, scope, near, share)
        self._hits[request.tenant, request.id] = sample
        if len(self._hits) > HITS:
            self._hits.popitem(last=False)
        if _may_ask(request) and self._chance.random() < share:
            self._add(_Waiting(sample, request, _text(near)))

    def feedback(self, tenant: str, response_id: str, rating: Rating) -> None:
        """Take what a person says of a hit, if it is still known. It teaches, but no rate counts it: it is not random.

        Whoever speaks first of a response is heard.
        """
        sample = self._hits.pop((tenant, response_id), None)
        if sample is None or len(self._rated) >= WAITING:
            return
        says = Says.SAME if rating is Rating.UP else Says.DIFFERENT
        opinions = (Opinion(judge=FEEDBACK, says=says),)
        self._rated.append(Judged(sample=replace(sample, id=_sample_id(), probability=0.0), opinions=opinions))
        self._more.set()

    def answered(self, request: Request, source: Source, text: str, prompt_features: bytes = b"") -> None:
        """Take an answer of the small model, or of the large one that was asked at once; the other one is asked too.

        `prompt_features` are what the router knows of the prompt.
        """
        small = source is Source.SMALL
        share = self._shares.small if small else self._shares.large
        if not _may_ask(request) or self._chance.random() >= share:
            return
        lever, other = (Lever.SMALL, Strategy.LARGE) if small else (Lever.LARGE, Strategy.SMALL)
        sample = replace(self._of(lever, request, share), prompt_features=prompt_features)
        self._add(_Waiting(sample, request, text, None, other))

    def escalated(self, request: Request, check: str, small: str, large: str, prompt_features: bytes = b"") -> None:
        """Take an answer that a check took back, and the one in its place. It costs no call."""
        if request.evidence and small.strip():
            sample = self._of(Lever.CHECK, request, 1.0)
            sample = replace(sample, detail=check, prompt_features=prompt_features)
            self._add(_Waiting(sample, request, small, large))

    async def begin(self, since: float) -> None:
        """Take over what was found before, of samples taken since then (Unix seconds). Raises `TimeoutError`."""
        changes = await self._store.steered()
        self._trust.steer(changes)  # first, since requests are served meanwhile
        found = {lever: await self._store.judged(lever, since, REMEMBERED) for lever in Lever}
        judged = [each for some in found.values() for each in some]
        await asyncio.to_thread(self._trust.restore, judged, changes)
        self._note(judged, changes)
        await self._teach(judged)
        self._drop(found[Lever.SEMANTIC][-BATCH:])  # the process may have died before it did so

    async def follow(self, changes: Callable[[float, int], Awaitable[list[Change]]]) -> None:
        """Steer as other workers do, until cancelled. `changes` returns the last ones since then, the newest first."""
        while True:
            await beat(FOLLOW_S)
            since = self._wall() - LATE_S
            with suppress(TimeoutError):
                found = [each for each in await changes(since, CHANGES) if each not in self._heeded]
                await self._learn((), [*reversed(found)])  # the oldest first

    async def heed(self, judged: Sequence[Judged], changes: Sequence[Change]) -> None:
        """Learn what other replicas have found of hits, and steer as they do; what is known is passed over.

        Their samples count for no rate here: each replica steers by its own. Raises `TimeoutError`: heed it again.
        """
        judged = [each for each in judged if each.sample.id not in self._known]
        later = (each for each in changes if each.at > self._steered_at.get((each.tenant, each.scope), 0.0))
        changes = sorted(later, key=lambda each: each.at)
        if self._keeps_others and (judged or changes):
            await self._store.add(judged, changes)
        await self._learn(judged, changes)

    async def run(self) -> None:
        """Judge what comes, until cancelled."""
        have_waited = False
        while True:
            await self._more.wait()
            if not have_waited:
                await asyncio.sleep(self._gather_s)
            have_waited = False
            while self._is_busy():  # noqa: ASYNC110 - nobody tells when few run
                await asyncio.sleep(BUSY_S)
            try:
                await self._judge_some()
                have_waited = bool(self._waiting)
            except TimeoutError:  # the disk, or another process that is to hear of it, is late
                log.get().warning("evidence waits for the disk")
            except Exception as error:
                self._found = None
                log.get().error("evidence not kept", exc_info=error)
            finally:
                self._at_work = 0
            if self._waiting or self._rated or self._found or self._wrong:
                self._more.set()

    async def _judge_some(self) -> None:
        """Judge some samples, keep what is found, and only then do what follows. Raises `TimeoutError`: go on later."""
        self._more.clear()
        if self._found is None:
            batch = self._batch()
            self._at_work = len(batch)
            judged, self._rated = self._rated, []
            judged += [each for each in await asyncio.gather(*map(self._judged, batch)) if each is not None]
            async with self._trusting:
                self._found = judged, await asyncio.to_thread(self._trust.changes, judged, self._wall())
        judged, changes = self._found
        if judged:
            await self._store.add(judged, changes)
            await self._learn(judged, changes)
            self.tell(judged, changes)
            await self._teach(judged)
        self._found = None
        self._drop(judged)
        await self._remove_wrong()

    async def _learn(self, judged: Sequence[Judged], changes: Sequence[Change]) -> None:
        """Have the semantic cache learn it, and serve accordingly. All of it is on disk by now."""
        if judged or changes:
            self._note(judged, changes)
            async with self._trusting:
                await asyncio.to_thread(self._trust.learn, judged, changes)

    def _note(self, judged: Sequence[Judged], changes: Sequence[Change]) -> None:
        """Note what is known, so that it is learned once."""
        since = self._wall() - 2 * LATE_S
        self._heeded = {each for each in (*self._heeded, *changes) if each.at >= since}
        for change in changes:
            self._steered_at[change.tenant, change.scope] = change.at
        self._known |= dict.fromkeys(each.sample.id for each in judged if each.sample.is_of_questions)
        for id_ in [*islice(self._known, max(0, len(self._known) - KNOWN))]:
            del self._known[id_]

    async def _teach(self, judged: Sequence[Judged]) -> None:
        """Have all learn from it who do. One who fails keeps nobody else from it."""
        for student in self._students:
            try:
                await asyncio.to_thread(student.learn, judged)
            except Exception as error:
                log.get().error("nothing was learned", student=type(student).__name__, exc_info=error)

    async def _remove_wrong(self) -> None:
        """Remove what was found wrong. What cannot be removed in time keeps nothing else from it, and comes again."""
        wrong, self._wrong = self._wrong, {}
        for tenant, entry_ids in wrong.items():
            try:
                await self._remove(tenant, entry_ids)
            except TimeoutError:
                self._wrong[tenant] = entry_ids
            except Exception as error:
                log.get().error("a wrong answer was not removed", entries=len(entry_ids), exc_info=error)

    def _drop(self, judged: Sequence[Judged]) -> None:
        """Have what was found wrong removed."""
        for tenant, entry_ids in wrong_entries(judged).items():
            self._wrong.setdefault(tenant, []).extend(entry_ids)
            self._more.set()

    def _batch(self) -> list[_Waiting]:
        """Take samples to be judged together."""
        batch: list[_Waiting] = []
        asked = 0
        while self._waiting and len(batch) < BATCH and asked < ASKING:
            batch.append(self._take())
            asked += batch[-1].fresh is None
        return batch

    async def _judged(self, waiting: _Waiting) -> Judged | None:
        """Return what the judges say; None if there is nothing to compare, nobody can tell, or something is broken."""
        try:
            fresh = waiting.fresh
            sample = waiting.sample
            if fresh is None:
                fresh = await self._ask(waiting.request, waiting.strategy)
            if fresh is None:
                return None
            question = waiting.request.prompt.messages[-1].text
            opinions = await self._panel.opinions(sample, question, waiting.earlier, fresh)
            if opinions and self._measured is not None and sample.lever in _OF_SMALL:
                small = fresh if sample.lever is Lever.LARGE else waiting.earlier
                sample = _with(sample, await self._measured(waiting.request, small))
        except Exception as error:
            log.get().error("a sample was not judged", exc_info=error)
            return None
        return Judged(sample=sample, opinions=opinions) if opinions else None

    def _of_pair(self, lever: Lever, request: Request, scope: bytes, near: NearAnswer, probability: float) -> Sample:
        return replace(
            self._of(lever, request, probability),
            scope=scope,
            entry_id=near.entry_id,
            asked_id=near.asked_id,
            log_odds=near.log_odds,
            features=near.features,
        )

    def _of(self, lever: Lever, request: Request, probability: float) -> Sample:
        return Sample(
            id=_sample_id(),
            lever=lever,
            tenant=request.tenant,
            request_id=request.id,
            taken_at=self._wall(),
            probability=probability,
        )

    def _add(self, waiting: _Waiting) -> None:
        size = waiting.size
        if len(self._waiting) >= WAITING or self._bytes + size > WAITING_BYTES:
            self.left_out += 1
            return
        self._waiting.append((size, waiting))
        self._bytes += size
        self._more.set()

    def _take(self) -> _Waiting:
        size, waiting = self._waiting.popleft()
        self._bytes -= size
        return waiting


_OF_SMALL = frozenset({Lever.SMALL, Lever.CHECK, Lever.LARGE})  # samples of which one answer is the small model's


def _with(sample: Sample, verdict: Verdict) -> Sample:
    """Return a sample with what the checks say of its small answer."""
    match sample.lever:
        case Lever.LARGE:  # nobody was given it
            return replace(sample, detail=verdict.check or PASSED)
        case Lever.CHECK:  # which may have seen what is not in the text
            return replace(sample, features=verdict.features | {sample.detail: 1.0})
    return replace(sample, features=verdict.features)


def _sample_id() -> str:
    return f"smp_{secrets.token_hex(8)}"


def _may_ask(request: Request) -> bool:
    """Whether a request may be asked once more.

    Not if it opted out, if something would be done twice, if it was to be kept once, or if it wants no model.
    """
    prompt = request.prompt
    has_media = any(not isinstance(part, str) for message in prompt.messages for part in message.parts)
    return request.evidence and not (prompt.tools or has_media or request.store or request.cache is CacheMode.ONLY)


def _text(near: NearAnswer) -> str:
    return msgspec.json.decode(near.answer, type=StoredAnswer).text
