"""Teaches the router off the event loop, and keeps what it has learned, in memory of some tenants and on disk of all.

What is to be learned waits in a bounded queue. One task reads what is kept of the tenants who ask, has what waits
learned on another thread, and keeps what was learned, every few seconds and at the end. It reads from disk whose
learning is frozen, and which states others have changed: a command, or another process in a handover. If the state of a
tenant was changed, it is read again, and what was learned meanwhile is learned once more on top of it.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from threading import Lock

import msgspec
from msgspec import Struct

from millrace import log
from millrace.beat import beat
from millrace.evidence.rates import ErrorCounts
from millrace.funnel.routing import labels
from millrace.funnel.routing.features import Features
from millrace.funnel.routing.labels import Checked, Rated
from millrace.funnel.routing.learned import SIZE, Learned
from millrace.funnel.routing.promises import Place, Promises
from millrace.ports import Clock, RouterStore
from millrace.types import PASSED, Judged, Label, Lever, Says, Tier

TENANTS = 64  # whose state is in memory
ASKING = 1024  # tenants that may wait for theirs
WAITING = 10_000  # lessons
WAITING_BYTES = 32 * 2**20
AT_ONCE = 200  # lessons of one turn, some 50 ms on the other thread
UNSAVED = 2000  # lessons of a tenant that can be learned once more
TURN_S = 0.25
LOOK_S = 2.0  # between two looks at what others have changed
SAVE_S = 5.0
ALL = ""  # in place of a tenant: all of them
PAIRS = frozenset({Lever.SMALL, Lever.LARGE, Lever.CHECK})  # samples that have two models' answers


class Memo(Struct, array_like=True):
    """What is remembered of a prompt: as much as a lesson needs."""

    model: str  # that was asked for
    score: float  # before anything was learned from it
    tier: Tier  # asked first
    features: bytes


class Lesson(Struct, frozen=True):
    """What was said of the answers to one request."""

    tenant: str
    at: float  # Unix seconds
    memo: bytes
    said: tuple[Checked, ...] | Rated | Judged

    @property
    def size(self) -> int:
        """Its bytes, about."""
        return 400 + len(self.memo)


class Learning:
    """What is known of the tenants, and what is still to be learned."""

    def __init__(self, promises: Promises, wall: Clock, *, learns: bool = True) -> None:
        self.frozen: frozenset[str] = frozenset()  # tenants; `ALL`
        self.left_out = 0  # lessons, because too many waited
        self.learns = learns  # may change at any time
        self._promises = promises
        self._wall = wall
        self._tenants: OrderedDict[str, Learned] = OrderedDict()  # the least recently used one first
        self._taught = 0  # tenants who have heads of their own
        self._unread = Learned()  # of tenants for whom there is no place
        self._lock = Lock()  # of the queue, which two threads fill
        self._waiting: deque[Lesson] = deque()
        self._bytes = 0
        self._unsaved: dict[str, list[Lesson]] = {}
        self._errors = ErrorCounts()  # of the judges

    @property
    def bytes_used(self) -> int:
        """Bytes of what is known and of what waits, about."""
        return self._bytes + SIZE * self._taught

    @property
    def waiting(self) -> int:
        """The number of lessons that wait."""
        return len(self._waiting)

    def is_frozen(self, tenant: str) -> bool:
        """Whether a tenant learns nothing now."""
        return not self.learns or tenant in self.frozen or ALL in self.frozen

    def known(self, tenant: str) -> Learned:
        """Return what is known of a tenant: nothing, until it was read. It is from now on."""
        found = self._tenants.get(tenant)
        if found is None:
            if len(self._tenants) >= ASKING:
                return self._unread
            found = self._tenants[tenant] = Learned()
        else:
            self._tenants.move_to_end(tenant)
        return found

    def add(self, lesson: Lesson) -> None:
        """Have something learned soon. The oldest lesson is left out if too many wait. Called from any thread."""
        with self._lock:
            self._waiting.append(lesson)
            self._bytes += lesson.size
            while len(self._waiting) > WAITING or self._bytes > WAITING_BYTES:
                self._bytes -= self._waiting.popleft().size
                self.left_out += 1

    def count_errors(self, judged: Iterable[Judged]) -> None:
        """Count how often judges err, over all tenants: it says how sure they are."""
        for each in judged:
            self._errors.add(each)

    def teach(self, most: int = AT_ONCE) -> None:
        """Learn some of what waits, of tenants that were read. Called on one thread at a time, off the loop."""
        self._taught = sum(learned.is_taught for learned in list(self._tenants.values()))
        for lesson in self._taken(most):
            learned = self._tenants.get(lesson.tenant)
            if learned is None or not learned.is_read:
                self._ask_for(lesson)
                continue
            self._learn(learned, lesson)
            unsaved = self._unsaved.setdefault(lesson.tenant, [])
            if len(unsaved) < UNSAVED:
                unsaved.append(lesson)

    async def begin(self, store: RouterStore) -> None:
        """Take over how the promises were kept. Raises `TimeoutError`."""
        self.frozen = await store.frozen()
        kept = await store.load_promises()
        if kept is not None and not await asyncio.to_thread(self._promises.restored, kept):
            log.get().warning("how promises were kept is damaged, or of another version: it is learned anew")

    async def run(self, store: RouterStore) -> None:
        """Learn what comes, and keep it, until cancelled."""
        looked_at = saved_at = self._wall()
        while True:
            await beat(TURN_S)
            try:
                now = self._wall()
                if is_due := abs(now - looked_at) >= LOOK_S:
                    looked_at = now
                    await self._look(store)
                await self.read(store)
                if is_due or self._waiting:
                    await asyncio.to_thread(self.teach)
                if abs(now - saved_at) >= SAVE_S:
                    saved_at = now
                    await self.keep(store)
            except TimeoutError:
                log.get().warning("the router waits for the disk")
            except Exception as error:
                log.get().error("the router has not learned", exc_info=error)

    async def end(self, store: RouterStore) -> None:
        """Learn what waits, and keep it, for the last time."""
        try:
            await self.read(store)
            await asyncio.to_thread(self.teach, WAITING)
            await self.keep(store)
        except Exception as error:  # also late
            log.get().warning("what the router has learned last is not kept", error=str(error))

    async def keep(self, store: RouterStore) -> None:
        """Keep what was learned. Raises `TimeoutError`: it is kept later."""
        changed = [(tenant, learned) for tenant, learned in self._tenants.items() if learned.is_new and learned.is_read]
        for tenant, learned in changed:
            await self._keep(store, tenant, learned)
        for tenant in [*self._tenants][: max(0, len(self._tenants) - TENANTS)]:
            if self._tenants[tenant].is_read and not self._tenants[tenant].is_new:
                del self._tenants[tenant]
        if changed:
            await store.save_promises(await asyncio.to_thread(self._promises.dumped))

    async def _keep(self, store: RouterStore, tenant: str, learned: Learned) -> None:
        learned.is_new = False
        unsaved = self._unsaved.pop(tenant, [])
        try:
            state = await asyncio.to_thread(learned.dumped)
            version = await store.save(tenant, state, learned.labels, after=learned.version, anew=learned.keep_anew)
        except BaseException:
            learned.is_new = True
            self._unsaved[tenant] = unsaved + self._unsaved.get(tenant, [])
            raise
        if version is None:
            self._unsaved[tenant] = unsaved
            await self._read_again(store, tenant)
        else:
            learned.version, learned.keep_anew = version, False

    async def _look(self, store: RouterStore) -> None:
        """Heed what others have changed."""
        self.frozen = await store.frozen()
        read = {tenant: learned.version for tenant, learned in self._tenants.items() if learned.is_read}
        for tenant, version in (await store.versions(read)).items():
            learned = self._tenants.get(tenant)
            if learned is not None and learned.version == read[tenant] != version:
                await self._read_again(store, tenant)

    async def read(self, store: RouterStore) -> None:
        """Read what is kept of those who wait for it."""
        for tenant in [tenant for tenant, learned in self._tenants.items() if not learned.is_read]:
            costs = self._tenants[tenant].costs
            learned = await self._loaded(store, tenant)
            if costs.requests:  # that came meanwhile
                learned.costs.requests += costs.requests
                learned.costs.dollars += costs.dollars
                learned.costs.large_dollars += costs.large_dollars
                learned.is_new = True
            self._tenants[tenant] = learned

    async def _read_again(self, store: RouterStore, tenant: str) -> None:
        """Read what another process has kept, and learn on top of it what it does not know."""
        learned, unsaved = await self._loaded(store, tenant), self._unsaved.get(tenant, [])

        def learn() -> None:
            for lesson in unsaved:
                self._learn(learned, lesson, is_counted=True)

        await asyncio.to_thread(learn)
        self._tenants[tenant] = learned
        log.get().info("the router's state was read again", tenant=tenant, labels=learned.labels)

    async def _loaded(self, store: RouterStore, tenant: str) -> Learned:
        kept = await store.load(tenant)
        if kept is None:
            return Learned(is_read=True)
        learned = None if kept.state is None else await asyncio.to_thread(Learned.loaded, kept.state)
        if learned is None:
            message = "what the router learned is damaged, or of another version: it begins anew"
            log.get().warning(message, tenant=tenant, number=kept.version.number)
            learned = Learned(is_read=True, keep_anew=True)
        learned.version = kept.version
        return learned

    def _taken(self, most: int) -> list[Lesson]:
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._bytes -= sum(lesson.size for lesson in taken)
        return taken

    def _ask_for(self, lesson: Lesson) -> None:
        """Wait until its tenant was read; if too many are read, it is left out."""
        if self.known(lesson.tenant) is self._unread:
            self.left_out += 1
        else:
            self.add(lesson)

    def _learn(self, learned: Learned, lesson: Lesson, *, is_counted: bool = False) -> None:
        """Learn one lesson. `is_counted`: the promises know of it."""
        said = lesson.said
        if isinstance(said, Judged):
            if not learned.learnt.is_new(said):
                return
            learned.is_new = True
        try:
            memo = msgspec.msgpack.decode(lesson.memo, type=Memo)
        except msgspec.MsgspecError:
            return
        if isinstance(said, Judged) and not is_counted:
            promise(self._promises, said, memo, (lesson.tenant, memo.model))
        features = Features.unpacked(memo.features)
        if features is None or self.is_frozen(lesson.tenant):
            return
        label = self._label(learned, said)
        if label is not None:
            learned.learn(features, label, lesson.at)

    def _label(self, learned: Learned, said: Sequence[Checked] | Rated | Judged) -> Label | None:
        if isinstance(said, Judged):
            labels.count_pair(said, learned.words)
            return labels.of_judged(said, self._errors.errors(""))
        return labels.of_rating(said) if isinstance(said, Rated) else labels.of_verdicts(said, learned.words)


def promise(promises: Promises, judged: Judged, memo: Memo, place: Place) -> None:
    """Tell the promises of a pair: whoever has the small answer loses what the two differ in."""
    sample = judged.sample
    gain = float(judged.opinions[-1].says is Says.DIFFERENT)
    failed = None if not sample.detail else sample.detail != PASSED
    promises.judged(place, memo.score, memo.tier, gain, sample.probability, failed=failed)
