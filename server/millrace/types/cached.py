"""What the semantic cache keeps, as an operator sees it."""

from dataclasses import dataclass

from millrace.types.answer import StoredAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedEntry:
    """One question and its answer, as they are on disk."""

    id: str  # `entry_id` of its hits; the same as long as scope and question are
    tenant: str
    scope: bytes  # SHA-256 of all of the request but the question
    question: str
    answer: StoredAnswer
    stored_at: float  # Unix seconds
    expires_at: float  # Unix seconds
    used_at: float  # Unix seconds, of the last hit; of the store if there was none
    hits: int  # since it was first stored
    size: int  # bytes on disk, about


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedScope:
    """What one scope keeps."""

    tenant: str
    scope: bytes  # SHA-256 of all of the request but the question
    entries: int
    hits: int  # of its entries
    size: int  # bytes on disk, about
    used_at: float  # Unix seconds, of the last hit or store
