"""What the router has learned, as an operator reads it, and the commands that change it.

All of it is about what is kept. A running server keeps what it learns every few seconds, and heeds within seconds what
is changed here.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from millrace.evidence import intervals
from millrace.evidence.rates import TAIL, Weighted
from millrace.funnel.routing.heads import PRIOR_LABELS, Heads
from millrace.funnel.routing.learned import Count, Learned
from millrace.funnel.routing.learning import ALL
from millrace.funnel.routing.pairs import Pair
from millrace.funnel.routing.promises import Promises
from millrace.ports import RouterStore
from millrace.types import KeptState, LabelSource, StateVersion
from millrace.wire import router as wire

SHARES = tuple(tenth / 10 for tenth in range(11))  # of requests, for the large model


class KeptRouter(RouterStore, Protocol):
    """All that is kept. Everything raises `TimeoutError`."""

    async def tenants(self) -> list[str]:
        """Return all tenants of whom something was learned."""
        ...

    async def snapshot(self, tenant: str, number: int) -> KeptState | None:
        """Return an earlier state; None if it is not kept."""
        ...

    async def snapshots(self, tenant: str) -> list[KeptState]:
        """Return all states of a tenant that are kept, the newest first."""
        ...

    async def freeze(self, tenant: str, *, frozen: bool) -> bool:
        """Have a tenant learn nothing from now on, or learn again; False if it was so."""
        ...

    async def save(
        self, tenant: str, state: bytes, labels: int, after: StateVersion | None, *, anew: bool = False, note: str = ""
    ) -> StateVersion | None:
        """Keep a state, and why; None if another one is the newest by now."""
        ...


class RouterReports:
    """Reads what is kept, and changes it."""

    def __init__(self, kept: KeptRouter, promises: Callable[[], Promises], *, learns: bool) -> None:
        """`promises` makes those of the configuration, of which nothing is known yet."""
        self._kept = kept
        self.promises = promises  # may change at any time
        self.learns = learns  # may change at any time

    async def report(self, tenant: str | None = None) -> wire.RouterReport:
        """Report on one tenant, or on all. Raises `TimeoutError` if the disk is too slow."""
        frozen, promises = await self._kept.frozen(), await self.kept_promises()
        names = await self._kept.tenants() if tenant is None else [tenant]
        names += sorted({place[0] for place in promises.places if tenant in (None, place[0])} - {*names})
        shown = []
        for name in names:
            states = await self._kept.snapshots(name)
            is_frozen = name in frozen or ALL in frozen
            shown.append(await asyncio.to_thread(_tenant, name, states, promises, is_frozen=is_frozen))
        return wire.RouterReport(learns_now=self.learns, tenant=tenant, tenants=shown)

    async def kept_promises(self) -> Promises:
        """Return the promises of the configuration, and what is known of their keeping. Raises `TimeoutError`."""
        promises = self.promises()
        if (state := await self._kept.load_promises()) is not None:
            await asyncio.to_thread(promises.restored, state)
        return promises

    async def freeze(self, tenant: str | None, *, frozen: bool) -> bool:
        """Have a tenant, or all, learn nothing, or learn again; False if it was so. Raises `TimeoutError`."""
        return await self._kept.freeze(ALL if tenant is None else tenant, frozen=frozen)

    async def restore(self, tenant: str, number: int) -> int | None:
        """Go back to an earlier state, and return the number that it has now; None if there is none that can be read.

        What was judged since then is not learned again. Raises `TimeoutError`.
        """
        while True:
            newest, earlier = await self._kept.load(tenant), await self._kept.snapshot(tenant, number)
            learned = _read(earlier)
            if learned is None or newest is None:
                return None
            current = _read(newest)
            if current is not None:
                learned.learnt = current.learnt
            state, note = await asyncio.to_thread(learned.dumped), f"restored from {number}"
            saved = await self._kept.save(tenant, state, learned.labels, after=newest.version, anew=True, note=note)
            if saved is not None:
                return saved.number

    async def replace(self, tenant: str, heads: Heads, at: float, note: str) -> int:
        """Have a tenant's requests scored by these heads, which have learned from pairs; return the state's number.

        What else is known of the tenant stays, and the present state stays as a snapshot. `at` in Unix seconds. Raises
        `TimeoutError`.
        """
        while True:
            newest = await self._kept.load(tenant)
            learned = _read(newest) or Learned()
            learned.heads = heads
            learned.counts = {LabelSource.SHADOW: Count(heads.labels, heads.labels, at, at)}
            state, after = await asyncio.to_thread(learned.dumped), None if newest is None else newest.version
            saved = await self._kept.save(tenant, state, learned.labels, after=after, anew=True, note=note)
            if saved is not None:
                return saved.number


def outlook(pairs: Sequence[Pair], saved: float | None) -> list[wire.ShownOutlook]:
    """Return what comes of each share of requests for the large model; empty without pairs.

    Bounds are exact ones of a simple sample of the effective size (see `evidence/rates.py`).
    """
    return [outlook_at(pairs, share, saved) for share in SHARES] if pairs else []


def outlook_at(pairs: Sequence[Pair], large_share: float, saved: float | None) -> wire.ShownOutlook:
    """Return what comes of one share."""
    seen = Weighted()
    for pair in pairs:
        seen.add(pair.weight, counts=pair.loss > 0 and pair.rank < 1 - large_share)
    lost, size, is_large = seen.share, seen.effective, large_share >= 1
    return wire.ShownOutlook(
        large_share=large_share,
        quality=1 - lost,
        lower=1.0 if is_large else 1 - intervals.upper(lost * size, size, TAIL),
        upper=1.0 if is_large else 1 - intervals.lower(lost * size, size, TAIL),
        saved=None if saved is None else saved * (1 - large_share),
    )


def _tenant(name: str, states: Sequence[KeptState], promises: Promises, *, is_frozen: bool) -> wire.ShownTenant:
    learned = _read(states[0] if states else None) or Learned()
    sources = [
        wire.ShownLabels(
            source=source.value,
            labels=count.labels,
            counted=count.weight,
            since=count.since or None,
            last=count.last or None,
        )
        for source, count in learned.counts.items()
    ]
    models = []
    for place in sorted(place for place in promises.places if place[0] == name):
        pairs = promises.pairs(place)
        kept = promises.threshold(place).reason
        models.append(
            wire.ShownPlace(model=place[1], pairs=len(pairs), kept=kept, outlook=outlook(pairs, learned.saved))
        )
    snapshots = [
        wire.ShownSnapshot(
            number=state.version.number,
            saved_at=state.saved_at,
            labels=state.labels,
            readable=state.state is not None,
            note=state.note,
        )
        for state in states
    ]
    return wire.ShownTenant(
        tenant=name,
        frozen=is_frozen,
        labels=learned.labels,
        needed=PRIOR_LABELS,
        by_length=learned.is_prior,
        sources=sources,
        saved=learned.saved,
        models=models,
        snapshots=snapshots,
    )


def _read(kept: KeptState | None) -> Learned | None:
    return None if kept is None or kept.state is None else Learned.loaded(kept.state)
