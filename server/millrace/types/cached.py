"""What an operator sees of the caches: their entries, what they hold by tenant, and a decision with its reasons."""

import hashlib

from msgspec import Struct

from millrace.types.answer import CacheOutcome, StoredAnswer

SEMANTIC_PREFIX = "sem_"  # of the ids of entries of the semantic cache


def entry_id(scope: bytes, question: str) -> str:
    """Return the id of a question in a scope."""
    text = question.encode("utf-8", "surrogatepass")
    return SEMANTIC_PREFIX + hashlib.sha256(b"%d:%b%b" % (len(scope), scope, text)).hexdigest()[:24]


class Objection(Struct, frozen=True, kw_only=True, gc=False):
    """Why one stored answer may not do for another question."""

    rule: str  # its name
    reason: str  # in plain words; may repeat words of both questions; empty where the name says all
    is_hard: bool  # never overruled; a soft one is evidence for the decision


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """Whether the answer to a stored question would be served to another one, and why."""

    served: bool
    refused: tuple[str, ...] = ()  # why one of the two has an answer for its own request alone
    objections: tuple[Objection, ...] = ()
    cosine: float | None = None  # of both questions; None: not compared
    probability: float | None = None  # that the answer does for the other question; None: ruled out
    threshold: float  # of the probability


class KeptAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """One stored answer, in either cache or in both."""

    ids: tuple[str, ...]  # in the semantic cache, in the exact one
    caches: tuple[CacheOutcome, ...]
    tenant: str
    scope: bytes = b""  # only of the semantic cache
    question: str = ""  # only of the semantic cache; the exact one keeps no questions
    stored_at: float  # Unix seconds
    size: int  # bytes on disk, about
    answer: StoredAnswer
    hits: int  # requests that it has answered, as far as the ledger goes back


class NearEntry(Struct, frozen=True, kw_only=True, gc=False):
    """A stored question near to another one, and what the decision says of the two."""

    id: str
    tenant: str
    scope: bytes
    question: str
    stored_at: float  # Unix seconds
    decision: Decision


class Served(Struct, frozen=True, kw_only=True, gc=False):
    """How many requests of a tenant the caches have answered."""

    requests: int = 0
    exact: int = 0
    semantic: int = 0
    joined: int = 0


class TenantCache(Struct, frozen=True, kw_only=True, gc=False):
    """What the caches hold of one tenant, and how often they have answered."""

    tenant: str
    exact_entries: int = 0
    exact_bytes: int = 0  # on disk, about, as all bytes here
    semantic_entries: int = 0
    semantic_bytes: int = 0
    scopes: int = 0
    oldest_at: float | None = None  # Unix seconds
    served: Served = Served()


class Deleted(Struct, frozen=True, kw_only=True, gc=False):
    """How many entries were deleted on disk."""

    exact: int
    semantic: int
    number: int  # of the deletion, which every running server reads
