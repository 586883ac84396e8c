"""Both caches: looks up earlier answers by the whole request or by meaning, and stores new ones."""

from collections.abc import Callable
from functools import partial

from millrace import tokens
from millrace.funnel import checks
from millrace.funnel.catalog import Catalog
from millrace.funnel.checks.guards import Guards
from millrace.funnel.ending import Result
from millrace.funnel.facts import Routed
from millrace.funnel.fingerprint import Keys, Scope, keys_of
from millrace.funnel.flight import FlightKey
from millrace.funnel.offload import in_thread_if_long
from millrace.funnel.response_log import ResponseLog
from millrace.funnel.shared_flights import SharedFlights
from millrace.ports import DeletedEntries, ExactCache, SemanticCache
from millrace.ports.flights import Lease
from millrace.types import (
    Answer,
    CacheMode,
    CacheOutcome,
    LookedUp,
    Request,
    SemanticHit,
    SemanticMiss,
    StoredAnswer,
    Thought,
    entry_id,
)

_READS = (CacheMode.ON, CacheMode.ONLY)
_WRITES = (CacheMode.ON, CacheMode.REFRESH)
DIGEST = 8  # bytes of a key that are kept in the ledger


class Recall:
    """The exact and the semantic cache, used as a request's cache mode says. Either may be off.

    Caches do not hold log-probabilities, so a request that asks for them passes by both.
    """

    def __init__(
        self,
        catalog: Catalog,
        exact: ExactCache | None,
        semantic: SemanticCache | None,
        deleted: DeletedEntries | None = None,
        selected: Callable[[Request], tuple[str, ...]] = checks.selected,  # the checks that run for a request
        guards: Guards | None = None,
        shared: SharedFlights | None = None,  # with other replicas
    ) -> None:
        self._selected = selected
        self._models = catalog.identities
        self._exact = exact
        self.shared = shared
        self._semantic = semantic
        self._deleted = deleted
        self._guards = () if guards is None else (guards.signature,)  # a stored answer was watched by these

    async def keys(self, request: Request) -> Keys:
        """Return the keys of a trimmed request; those of a long one are computed off the loop."""
        judged_by = (*self._selected(request), *self._guards)
        work = partial(keys_of, request, self._models, judged_by, has_scope=self._semantic is not None)
        own = 0 if request.check_schema is None else tokens.LONG + 1  # of unknown size
        return await in_thread_if_long(request.tenant, request.prompt.whole_size + own, work)

    async def exact(self, request: Request, keys: Keys, *, may_lead: bool = True) -> StoredAnswer | Lease | None:
        """Return the stored answer to an identical request, if there is one.

        Otherwise, where flights are shared with other replicas, return who leads that of the request: this process from
        now on, if nobody did. `may_lead`: such a flight would follow.
        """
        if self._exact is None or request.cache not in _READS or request.prompt.wants_logprobs:
            return None
        key, flight = keys.exact, FlightKey.of(request, keys) if may_lead else None
        # The second look in memory: during the read from SQLite an identical request may have been answered.
        found = self._exact.peek(key) or await self._find(self._exact, keys, flight) or self._exact.peek(key)
        is_deleted = isinstance(found, StoredAnswer) and self._is_deleted(found.id, found, request)
        return None if is_deleted else found

    async def _find(self, exact: ExactCache, keys: Keys, flight: FlightKey | None) -> StoredAnswer | Lease | None:
        if self.shared is None or flight is None:
            return await exact.find(keys.exact)
        return await self.shared.leases.find_or_lead(keys.exact, flight.name)

    async def semantic(self, request: Request, keys: Keys) -> SemanticHit | SemanticMiss | None:
        """Return the stored answer to a near-identical question, or why there is none; None if it was not looked up."""
        if self._semantic is None or request.cache not in _READS:
            return None
        if request.prompt.wants_logprobs:
            return _miss("the request asks for logprobs")
        if isinstance(keys.scope, str):
            return _miss(keys.scope)
        found = await self._semantic.find(keys.scope.digest, keys.scope.question, request.tenant)
        if isinstance(found, SemanticHit) and self._is_deleted(
            found.entry_id, found.answer, request, keys.scope.digest
        ):
            return _miss("the nearest one was deleted", found.similarity)
        return found

    def _is_deleted(self, entry_id: str, answer: StoredAnswer, request: Request, scope: bytes | None = None) -> bool:
        if self._deleted is None:
            return False
        covers = partial(self._deleted.covers, stored_at=answer.stored_at, tenant=request.tenant, scope=scope)
        return covers(entry_id) or covers(answer.id)

    def store(self, request: Request, keys: Keys, answer: Answer | None) -> None:
        """Store an answer in both caches, if there is one and the cache mode allows it."""
        if answer is None or request.cache not in _WRITES or request.prompt.wants_logprobs:
            return
        if self._exact is not None:
            self._exact.store(keys.exact, request.tenant, answer)
        if self._semantic is not None and isinstance(keys.scope, Scope):
            self._semantic.store(keys.scope.digest, request.tenant, keys.scope.question, answer)


def _miss(reason: str, similarity: float | None = None) -> SemanticMiss:
    return SemanticMiss(reason=reason, similarity=similarity, kind=reason)


def looked_up(request: Request, keys: Keys) -> LookedUp:
    """Return what the ledger keeps of the keys: enough to tell which requests are the same."""
    scope = keys.scope if isinstance(keys.scope, Scope) else None
    return LookedUp(
        mode=request.cache,
        key=keys.exact[:DIGEST].hex(),
        scope="" if scope is None else scope.digest[:DIGEST].hex(),
        entry_id="" if scope is None else entry_id(scope.digest, scope.question),
        input_tokens=request.input_tokens,
    )


def served(
    response: ResponseLog,
    stored: StoredAnswer,
    by: CacheOutcome,
    reason: str,
    now: float,
    hit: SemanticHit | None = None,
) -> Result:
    """Write a stored answer into a response; `now` in Unix seconds, `hit` if it came from the semantic cache."""
    routed = Routed.cached(response.request, stored, by, reason, now, hit)
    response.route(routed)
    response.commit()
    if stored.reasoning:
        response.say(Thought(stored.reasoning))
    response.write([stored.text])
    return Result.from_store(stored, routed)
