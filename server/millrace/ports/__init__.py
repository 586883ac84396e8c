"""The interfaces between the funnel and its adapters. Only `assembly` knows which adapter implements which."""

from millrace.ports.batches import BatchBills, BatchDisk, BatchStore, FileLine, ProviderBatch, ProviderBatches
from millrace.ports.caches import (
    Aligner,
    CacheControl,
    Comparer,
    DeletedEntries,
    ElsewhereDeleted,
    Embedder,
    ExactCache,
    HitCounts,
    Learner,
    Likeness,
    SemanticCache,
    SharedEntries,
    SharedEntry,
)
from millrace.ports.clock import Clock
from millrace.ports.database import Backlog, Claim, Database
from millrace.ports.evidence import AnswerJudge, AskAgain, EndedRequests, EvidenceStore, FeedbackStore, Student
from millrace.ports.observers import Observer
from millrace.ports.router import RouterStore
from millrace.ports.schemas import SCHEMA_TURN_S, SchemaReport, SchemaValidator
from millrace.ports.stores import Admission, Admitted, Archive, KeyStore, Ledger, Limiter, PastRequests, Rows
from millrace.ports.upstream import Attempt, EmbeddingsCall, EmbeddingsUpstream, Reading, Said, Sink, Upstream, said

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
    "BatchBills",
    "BatchDisk",
    "BatchStore",
    "CacheControl",
    "Claim",
    "Clock",
    "Comparer",
    "Database",
    "DeletedEntries",
    "ElsewhereDeleted",
    "Embedder",
    "EmbeddingsCall",
    "EmbeddingsUpstream",
    "EndedRequests",
    "EvidenceStore",
    "ExactCache",
    "FeedbackStore",
    "FileLine",
    "HitCounts",
    "KeyStore",
    "Learner",
    "Ledger",
    "Likeness",
    "Limiter",
    "Observer",
    "PastRequests",
    "ProviderBatch",
    "ProviderBatches",
    "Reading",
    "RouterStore",
    "Rows",
    "Said",
    "SchemaReport",
    "SchemaValidator",
    "SemanticCache",
    "SharedEntries",
    "SharedEntry",
    "Sink",
    "Student",
    "Upstream",
    "said",
]
