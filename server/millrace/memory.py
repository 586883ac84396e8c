"""What was answered before: looked up by the whole request, or by what was meant; written back off the hot path."""

from millrace import checks
from millrace.catalog import Catalog
from millrace.fingerprint import Scope, exact_key, semantic_scope
from millrace.ports import ExactCache, SemanticCache
from millrace.types import Answer, CacheMode, Request, SemanticHit, SemanticMiss, StoredAnswer

_READS = (CacheMode.ON, CacheMode.ONLY)
_WRITES = (CacheMode.ON, CacheMode.REFRESH)


class Memory:
    """Both caches behind a request's cache mode; either may be switched off."""

    def __init__(
        self, catalog: Catalog, exact: ExactCache | None, semantic: SemanticCache | None, embedder: str
    ) -> None:
        self._models = catalog.models
        self._exact = exact
        self._semantic = semantic
        self._embedder = embedder  # its name, a part of every scope

    def key(self, request: Request) -> bytes:
        """Return the key of the whole request, as it will be sent."""
        return exact_key(request, self._models, checks.NAMES)

    async def same(self, request: Request, key: bytes) -> StoredAnswer | None:
        """Return the answer to the same request."""
        if self._exact is None or request.cache not in _READS:
            return None
        # Once more in memory: while SQLite was asked, the same request may have been answered.
        return self._exact.recall(key) or await self._exact.find(key) or self._exact.recall(key)

    def scope(self, request: Request) -> Scope | str | None:
        """Return where the question is looked for by meaning, or why it is not; None where no cache is wanted."""
        if self._semantic is None or request.cache is CacheMode.OFF:
            return None
        return semantic_scope(request, self._models, checks.NAMES, self._embedder)

    async def near(self, request: Request, scope: Scope | str | None) -> SemanticHit | SemanticMiss | None:
        """Return the answer to a near-identical question, or why there is none; None where none was looked for."""
        if self._semantic is None or scope is None or request.cache not in _READS:
            return None
        if isinstance(scope, str):
            return SemanticMiss(reason=scope, similarity=None)
        return await self._semantic.find(scope.digest, scope.question)

    def remember(self, request: Request, key: bytes, scope: Scope | str | None, answer: Answer | None) -> None:
        """Write an answer back, if it is worth it and the request wants it."""
        if answer is None or request.cache not in _WRITES:
            return
        if self._exact is not None:
            self._exact.store(key, request.tenant, answer)
        if self._semantic is not None and isinstance(scope, Scope):
            self._semantic.store(scope.digest, request.tenant, scope.question, answer)
