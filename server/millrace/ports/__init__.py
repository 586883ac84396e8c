"""The interfaces between the funnel and its adapters. Only `assembly` knows which adapter implements which."""

from millrace.ports.caches import (
    Aligner,
    CacheControl,
    Comparer,
    DeletedEntries,
    Embedder,
    ExactCache,
    HitCounts,
    Learner,
    Likeness,
    SemanticCache,
)
from millrace.ports.clock import Clock
from millrace.ports.database import Backlog, Claim, Database
from millrace.ports.evidence import AnswerJudge, AskAgain, EndedRequests, EvidenceStore, FeedbackStore, Student
from millrace.ports.router import RouterStore
from millrace.ports.schemas import SCHEMA_TURN_S, SchemaReport, SchemaValidator
from millrace.ports.stores import Admission, Admitted, Archive, KeyStore, Ledger, Limiter
from millrace.ports.upstream import Attempt, EmbeddingsCall, EmbeddingsUpstream, Sink, Upstream

__all__ = [
    "SCHEMA_TURN_S",
    "Admission",
    "Admitted",
    "Aligner",
    "AnswerJudge",
    "Archive",
    "AskAgain",
    "Attempt",
    "Backlog",
    "CacheControl",
    "Claim",
    "Clock",
    "Comparer",
    "Database",
    "DeletedEntries",
    "Embedder",
    "EmbeddingsCall",
    "EmbeddingsUpstream",
    "EndedRequests",
    "EvidenceStore",
    "ExactCache",
    "FeedbackStore",
    "HitCounts",
    "KeyStore",
    "Learner",
    "Ledger",
    "Likeness",
    "Limiter",
    "RouterStore",
    "SchemaReport",
    "SchemaValidator",
    "SemanticCache",
    "Sink",
    "Student",
    "Upstream",
]
