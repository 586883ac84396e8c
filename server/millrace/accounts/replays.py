"""Reads a window twice: once for what is comparable, once to decide it again."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct, field

from millrace.accounts.comparable import Comparable
from millrace.accounts.promised import TriedPromise
from millrace.accounts.relearned import Begun, Relearned
from millrace.accounts.replay import Replay, Rules
from millrace.accounts.steered import Steered
from millrace.evidence.rates import first_errors, rate
from millrace.funnel.routing.labels import Separation
from millrace.funnel.routing.learning import PAIRS
from millrace.ports import Clock, PastRequests
from millrace.types import Change, Judged, Lever, Past, Price, Tier
from millrace.wire import replay as wire

PAGE = 500  # requests that are read at once
MOST_JUDGED = 50_000
ENOUGH = 30  # judged answers of the small model, from which on quality is told

Progress = Callable[[int, int], None]  # requests that were read, and all


class Known(Struct, frozen=True, kw_only=True):
    """What judging has found, the oldest first; the changes are all that are kept."""

    judged: Sequence[Judged] = ()
    changes: Sequence[Change] = ()
    words: Mapping[str, Mapping[str, Separation]] = field(default_factory=dict)  # what checks say, as learned by tenant


class Replays:
    """Replays of any window under other settings."""

    def __init__(
        self,
        past: PastRequests,
        known: Callable[[], Awaitable[Known]],
        wall: Clock,
        prices: dict[Tier, Price],
    ) -> None:
        """`prices` are those of today, of the small and the large model, where no row tells them."""
        self._past = past
        self._known = known
        self._wall = wall
        self._prices = prices

    async def report(
        self,
        since: float,
        was: Rules,
        tried: Rules,
        settings: list[wire.ShownSetting],
        tenant: str | None = None,
        on_read: Progress = lambda read, of_all: None,
    ) -> wire.ReplayReport:
        """Replay the requests that were opened since then (Unix seconds). Raises `TimeoutError`."""
        until, known = self._wall(), await self._known()
        numbers = await self._past.ended(since, tenant)
        comparable = Comparable(dict(self._prices))
        steered = [
            Steered(known.judged, known.changes, limit=rules.limit, needed=rules.needed, since=since)
            for rules in (was, tried)
        ]
        count = len(numbers)
        begun = Begun()

        def learn(rows: list[Past]) -> None:
            comparable.learn(rows)
            begun.learn(rows)

        await self._read(numbers, learn, lambda read: on_read(read, 2 * count))
        promise = relearned = None
        if tried.promised != was.promised:
            promise = TriedPromise(tried.promised, known.judged, comparable.first_scores, since)
            judged = [each for each in known.judged if each.sample.taken_at >= since]
            relearned = Relearned(begun, judged, first_errors(known.judged), known.words)
        replay = Replay.of(comparable, was, tried, steered, promise, relearned)
        await self._read(numbers, replay.add, lambda read: on_read(count + read, 2 * count))
        judged = [each for each in known.judged if each.sample.lever is Lever.SMALL]
        pairs = sum(each.sample.lever in PAIRS for each in known.judged)
        small_wrong = rate(judged, first_errors(known.judged)).estimate if len(judged) >= ENOUGH else None
        return wire.ReplayReport(
            since=since,
            until=until,
            tenant=tenant,
            settings=settings,
            requests=replay.requests,
            otherwise=replay.otherwise,
            as_they_were=replay.as_they_were,
            happened=replay.happened.shown(replay.requests, small_wrong),
            replayed=replay.replayed.shown(replay.requests, small_wrong, 0.0 if promise is None else begun.doubt),
            notes=_notes(
                replay, was, tried, pairs, has_judged=any(each.sample.taken_at >= since for each in known.judged)
            ),
        )

    async def _read(
        self, numbers: Sequence[int], take: Callable[[list[Past]], None], on_read: Callable[[int], None]
    ) -> None:
        for begin in range(0, len(numbers), PAGE):
            take(await self._past.read(numbers[begin : begin + PAGE], stories=True))
            on_read(min(begin + PAGE, len(numbers)))


def _notes(replay: Replay, was: Rules, tried: Rules, pairs: int, *, has_judged: bool) -> list[str]:
    notes = []
    if tried.promised.keep_quality is not None and tried.promised != was.promised:
        notes.append(
            f"A quality is kept by judged pairs of answers: {pairs:,}. Without enough the large model is asked."
        )
    if replay.otherwise:
        notes.append("What a model would have been paid that was not asked is estimated from comparable requests.")
    if tried.limit != was.limit and not has_judged:
        notes.append("No hit was judged in this window, so the bound of wrong hits steers nothing.")
    if was.checks_off - tried.checks_off:
        notes.append("What a check that was off would have taken back is not known: nothing is, here.")
    elif tried.checks_off != was.checks_off:
        notes.append("Another check may take back what the one that is off here did; nobody has asked it.")
    if replay.as_they_were:
        why = "failed, not for the funnel, or of an earlier version"
        notes.append(f"{replay.as_they_were:,} rows are taken as they are: {why}.")
    return notes
