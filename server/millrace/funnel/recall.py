"""What was answered before: looked up by the whole request, or by what was meant; written back off the hot path."""

from functools import partial

from millrace.funnel import checks
from millrace.funnel.catalog import Catalog
from millrace.funnel.fingerprint import Keys, Scope, keys_of
from millrace.funnel.offload import by_size
from millrace.ports import ExactCache, SemanticCache
from millrace.types import Answer, CacheMode, Request, SemanticHit, SemanticMiss, StoredAnswer

_READS = (CacheMode.ON, CacheMode.ONLY)
_WRITES = (CacheMode.ON, CacheMode.REFRESH)


class Recall:
    """Both caches behind a request's cache mode; either may be switched off."""

    def __init__(
        self, catalog: Catalog, exact: ExactCache | None, semantic: SemanticCache | None, embedder: str
    ) -> None:
        self._models = catalog.models
        self._exact = exact
        self._semantic = semantic
        self._embedder = embedder  # its name, a part of every scope

    async def keys(self, request: Request) -> Keys:
        """Return the keys of the whole request, as it will be sent; those of a long one are made off the loop."""
        work = partial(keys_of, request, self._models, checks.asked(request), self._embedder)
        return await by_size(len(request.prompt.context) + request.prompt.size, work)

    async def exact(self, request: Request, keys: Keys) -> StoredAnswer | None:
        """Return the answer to the same request."""
        if self._exact is None or request.cache not in _READS:
            return None
        key = keys.exact
        # Once more in memory: while SQLite was asked, the same request may have been answered.
        return self._exact.peek(key) or await self._exact.find(key) or self._exact.peek(key)

    async def semantic(self, request: Request, keys: Keys) -> SemanticHit | SemanticMiss | None:
        """Return the answer to a near-identical question, or why there is none; None where none was looked for."""
        if self._semantic is None or request.cache not in _READS:
            return None
        if isinstance(keys.scope, str):
            return SemanticMiss(reason=keys.scope, similarity=None)
        return await self._semantic.find(keys.scope.digest, keys.scope.question)

    def store(self, request: Request, keys: Keys, answer: Answer | None) -> None:
        """Write an answer back, if it is worth it and the request wants it."""
        if answer is None or request.cache not in _WRITES:
            return
        if self._exact is not None:
            self._exact.store(keys.exact, request.tenant, answer)
        if self._semantic is not None and isinstance(keys.scope, Scope):
            self._semantic.store(keys.scope.digest, request.tenant, keys.scope.question, answer)
