"""The JSON documents of the endpoints for admins that look into the caches. Times are Unix seconds, sizes bytes."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from millrace.types import Decision, KeptAnswer, NearEntry, TenantCache


class ExactStats(Struct):
    """What the exact cache holds, and how many requests it has answered within the life of an entry."""

    entries: int
    bytes: int
    hits: int


class SemanticStats(Struct):
    """The same of the semantic cache. Questions are compared only within a scope."""

    entries: int
    bytes: int
    scopes: int
    hits: int


class CacheStats(Struct, kw_only=True):
    """What the caches hold of the tenant that asks. `joined` requests shared an answer while it was made."""

    object: Literal["cache.stats"] = "cache.stats"
    tenant: str
    requests: int
    joined: int
    oldest_at: float | None
    exact: ExactStats
    semantic: SemanticStats


class ShownObjection(Struct):
    """Why an answer may not do. A hard objection is never overruled."""

    rule: str
    reason: str
    hard: bool


class ShownDecision(Struct, kw_only=True):
    """Whether the answer to a stored question is served to another one, and why.

    `refused` says which of the two has an answer for its own request alone. `probability` is null where an objection
    rules a hit out, and `cosine` where the two were not compared.
    """

    served: bool
    probability: float | None
    threshold: float
    cosine: float | None
    refused: list[str]
    objections: list[ShownObjection]


class Asked(Struct, forbid_unknown_fields=True):
    """A stored question, and one that is asked."""

    a: str
    b: str


class FoundEntry(Struct, kw_only=True):
    """A stored question near to the one that is searched for, and what the decision says of the two."""

    id: str
    tenant: str
    scope: str
    question: str
    stored_at: float
    decision: ShownDecision


class FoundEntries(Struct):
    """The nearest ones, first those that would be served."""

    data: list[FoundEntry]
    object: Literal["list"] = "list"


class ShownEntry(Struct, kw_only=True):
    """A stored answer, with the caches that have it, and its id in each. Only the semantic cache knows its question."""

    object: Literal["cache.entry"] = "cache.entry"
    ids: list[str]
    tenant: str
    caches: list[str]
    scope: str | UnsetType = UNSET
    question: str | UnsetType = UNSET
    stored_at: float
    size: int
    hits: int
    model: str
    answer: str


class DeletedEntries(Struct, kw_only=True):
    """How many entries were deleted on disk. None of them, nor those on their way there, is served again."""

    object: Literal["cache.deleted"] = "cache.deleted"
    exact: int
    semantic: int


def stats(held: TenantCache) -> CacheStats:
    """Return what is shown of a tenant."""
    return CacheStats(
        tenant=held.tenant,
        requests=held.served.requests,
        joined=held.served.joined,
        oldest_at=held.oldest_at,
        exact=ExactStats(held.exact_entries, held.exact_bytes, held.served.exact),
        semantic=SemanticStats(held.semantic_entries, held.semantic_bytes, held.scopes, held.served.semantic),
    )


def decision(made: Decision) -> ShownDecision:
    """Return what is shown of a decision."""
    return ShownDecision(
        served=made.served,
        probability=made.probability,
        threshold=made.threshold,
        cosine=made.cosine,
        refused=[*made.refused],
        objections=[ShownObjection(each.rule, each.reason, each.is_hard) for each in made.objections],
    )


def found(near: NearEntry) -> FoundEntry:
    """Return what is shown of an entry that was found."""
    return FoundEntry(
        id=near.id,
        tenant=near.tenant,
        scope=near.scope.hex(),
        question=near.question,
        stored_at=near.stored_at,
        decision=decision(near.decision),
    )


def entry(kept: KeptAnswer) -> ShownEntry:
    """Return what is shown of a stored answer."""
    return ShownEntry(
        ids=[*kept.ids],
        tenant=kept.tenant,
        caches=[each.value for each in kept.caches],
        scope=kept.scope.hex() or UNSET,
        question=kept.question or UNSET,
        stored_at=kept.stored_at,
        size=kept.size,
        hits=kept.hits,
        model=kept.answer.model_id,
        answer=kept.answer.text,
    )
