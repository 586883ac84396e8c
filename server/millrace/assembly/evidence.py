"""Evidence of one process: who judges, how it asks again, and what learns of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from millrace.assembly.background import begun, running
from millrace.caches.decision.mix import weights_for
from millrace.caches.embedders.chosen import Embedders
from millrace.caches.learning.knowledge import log_odds_of
from millrace.evidence.evidence import WAITING_BYTES, Evidence, Shares
from millrace.evidence.judges import judges_of, own_judges
from millrace.evidence.judging import Panel
from millrace.evidence.report import Promises, Reports
from millrace.evidence.trust import KEPT, KEPT_BYTES, Trust
from millrace.funnel.checks import Candidate
from millrace.funnel.checks.table import HARD
from millrace.funnel.funnels import Funnels
from millrace.memory import MemoryBudget
from millrace.ports import AskAgain, Backlog, Clock, EvidenceStore, Learner, Student
from millrace.settings import CacheSettings, EvidenceSettings, Settings
from millrace.stores.bills import Bills
from millrace.stores.evidence import SqliteEvidence
from millrace.types import Finish, FinishReason, Request, Verdict

FEW = 4  # running requests beside which samples are judged in any case
BUSY_SHARE = 8  # of the places for requests, as a divisor: with more running, evidence waits
BACKLOG_S = 1.0  # for which the first write has waited; with more, evidence waits


def evidence_of(  # noqa: PLR0913, PLR0917 - its parts
    settings: Settings,
    store: EvidenceStore,
    learner: Learner | None,
    embedders: Embedders,
    ask: AskAgain,
    remove: Callable[[str, Sequence[str]], Awaitable[object]],
    is_busy: Callable[[], bool],
    wall: Clock,
    students: Sequence[Student] = (),
    measured: Callable[[Request, str], Awaitable[Verdict]] | None = None,
) -> Evidence | None:
    """Return what is told of answers and has them judged; None where that is switched off. `students` learn from it."""
    chosen = settings.evidence
    if not chosen.judged:
        return None
    limit, needed = steered_by(settings.cache, embedders)
    return Evidence(
        store,
        panel_of(chosen, embedders, ask),
        Trust(learner, limit=limit, needed=needed),
        ask,
        remove,
        shares_of(chosen),
        wall=wall,
        is_busy=is_busy,
        students=students,
        measured=measured,
        keeps_others=settings.shared.postgres is None,
    )


def panel_of(settings: EvidenceSettings, embedders: Embedders, ask: AskAgain) -> Panel:
    """Return the judges."""
    judges = judges_of(embedders.comparer, ask, own_judges(), settings.model_judge)
    return Panel(judges, settings.checked_share)


def shares_of(settings: EvidenceSettings) -> Shares:
    """Return with what probability answers are asked for once more."""
    return Shares(hits=settings.hit_share, small=settings.small_share, large=settings.large_share)


def steered_by(settings: CacheSettings, embedders: Embedders) -> tuple[float, float]:
    """Return what rate of wrong hits is promised, and the log odds that a hit needs as configured."""
    threshold = settings.semantic_threshold
    if threshold is None:
        threshold = weights_for(embedders.comparer).threshold
    return settings.max_wrong_hit_rate, log_odds_of(threshold)


def promises_of(evidence: EvidenceSettings, cache: CacheSettings) -> Promises:
    """Return what the operator has set, to be reported."""
    return Promises(
        judged=evidence.judged,
        max_wrong_hit_rate=cache.max_wrong_hit_rate,
        dollars_per_day=evidence.dollars_per_day,
    )


def reports_of(
    evidence: EvidenceSettings, cache: CacheSettings, judged: SqliteEvidence, bills: Bills, wall: Clock
) -> Reports:
    """Return what reports on what was judged."""
    return Reports(judged, bills, promises_of(evidence, cache), wall, HARD)


def measured_by(funnels: Funnels) -> Callable[[Request, str], Awaitable[Verdict]]:
    """Return what tells what all checks say of a whole answer of the small model."""

    async def measured(request: Request, text: str) -> Verdict:
        checks = funnels.checks
        candidate = Candidate.of(request, text, (), Finish(reason=FinishReason.STOP))
        return await checks.judge(candidate, checks.selected(request), measures=True)

    return measured


def is_busy(funnels: Funnels, backlog: Backlog, max_running: int) -> bool:
    """Whether so many requests run, or so much waits for the disk, that evidence should wait."""
    return funnels.running > max(FEW, max_running // BUSY_SHARE) or backlog.is_full or backlog.oldest_s > BACKLOG_S


@asynccontextmanager
async def judging(
    evidence: Evidence | None,
    funnels: Funnels,
    memory: MemoryBudget,
    share: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> AsyncIterator[Callable[[], None]]:
    """Have samples judged, once what was found before is known. Yield what ends it early.

    `share` tells other replicas what is found, and has what they find heeded.
    """
    if evidence is None:
        yield lambda: None
        return
    memory.add("samples that wait", lambda: evidence.bytes_used, 2 * WAITING_BYTES)
    memory.add("judged hits", lambda: evidence.judged_bytes, KEPT * KEPT_BYTES)
    funnels.tell(evidence)
    async with running(_judging(evidence, share)) as end_task:

        def end() -> None:
            funnels.tell(None)
            end_task()

        try:
            yield end
        finally:
            end()


async def _judging(evidence: Evidence, share: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    # All that is kept: without it nobody knows how the scopes are steered.
    await begun(lambda: evidence.begin(0.0), "what was judged before was not read")
    await asyncio.gather(evidence.run(), *(() if share is None else (share(),)))
