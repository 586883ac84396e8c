"""Which of the candidates that were found is served, if any. What is not certain is a miss.

Nothing here looks anything up, waits or keeps an entry: texts and what is known of them go in, and a choice or the
reason against it comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from millrace.caches.decision.mix import Weights, probability
from millrace.caches.guards import Judgement, Question, judge
from millrace.caches.objections import shown_objection
from millrace.caches.partition import Stored
from millrace.caches.recent import Recent
from millrace.caches.reusable import reusable
from millrace.ports import Likeness
from millrace.types import SemanticMiss

VERSION = 2  # increase it when fewer questions may be stored than before: what is on disk is then read again


@dataclass(frozen=True, slots=True)
class Chosen:
    """The entry to serve."""

    entry: Stored
    similarity: float  # cosine, at most 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate to which no rule objects for good."""

    entry: Stored
    similarity: float  # as it was found
    stored: Question
    asked: Question
    judgement: Judgement


class Decider:
    """Decides, and keeps what it has read of recent questions. Not thread-safe, but for `compared`."""

    def __init__(self, weights: Weights, recent: int, *, compares: bool, threshold: float | None = None) -> None:
        """Keep the readings of recent questions with `recent` characters in all.

        `compares` says that candidates without a hard objection are compared by networks, which the weights expect.
        `threshold` is of the probability, if not that of the weights.
        """
        self._weights = weights if threshold is None else msgspec.structs.replace(weights, threshold=threshold)
        self._compares = compares
        self._read = Recent(Question.read, recent)
        # Of a question: None, or why its answer is for this request only.
        self.reusable = Recent(reusable, recent)

    @property
    def size(self) -> int:
        """Characters of the questions that are kept."""
        return self._read.size

    def judged(self, text: str, candidates: Sequence[tuple[float, Stored]]) -> Chosen | SemanticMiss | list[Candidate]:
        """Return the choice among candidates, the best first; or those that are still to be compared with the question.

        There must be one. A number is how similar the vectors are, or how well the tokens are aligned.
        """
        question = self._read(text)
        objections: list[str] = []
        judged: list[Candidate] = []
        for similarity, entry in candidates:
            # `shown_objection` needs this order: the stored question first.
            stored = self._read(entry.question)
            judgement = judge(stored, question)
            if judgement.hard:
                objections.append(shown_objection(judgement.hard[0], question, text))
            else:
                judged.append(Candidate(entry, similarity, stored, question, judgement))
        if judged:
            return judged if self._compares else self.compared(text, judged, [None] * len(judged))
        nearest = candidates[0][0]
        return SemanticMiss(reason=f"near ({nearest:.2f}), but {objections[0]}", similarity=nearest)

    def compared(
        self, text: str, judged: Sequence[Candidate], likenesses: Sequence[Likeness | None]
    ) -> Chosen | SemanticMiss:
        """Return the likeliest of the candidates, if it is likely enough. There is a likeness for each, or None.

        This may be called from any thread.
        """
        chances = [
            probability(self._weights, each.stored, each.asked, each.judgement, likeness)
            for each, likeness in zip(judged, likenesses, strict=True)
        ]
        best = max(range(len(judged)), key=chances.__getitem__)
        likeness = likenesses[best]
        similarity = min(1.0, judged[best].similarity if likeness is None else likeness.cosine)
        if chances[best] >= self._weights.threshold:
            return Chosen(judged[best].entry, similarity)
        objections = judged[best].judgement.soft
        why = f" ({shown_objection(objections[0], judged[best].asked, text)})" if objections else ""
        reason = f"near ({similarity:.2f}), but only {chances[best]:.0%} sure to ask the same{why}"
        return SemanticMiss(reason=reason, similarity=similarity)
