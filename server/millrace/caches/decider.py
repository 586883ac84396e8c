"""Which of the candidates that were found is served, if any. What is not certain is a miss.

Nothing here looks anything up, waits or keeps an entry: texts and cosines go in, and a choice or the reason against it
comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.caches.guards import Question, agree, self_contained
from millrace.caches.objections import shown_objection
from millrace.caches.partition import Stored
from millrace.caches.recent import Recent
from millrace.ports import Comparer, Embedder
from millrace.types import SemanticMiss

VERSION = 1  # increase it when fewer questions may be stored than before: what is on disk is then read again


@dataclass(frozen=True, slots=True)
class Chosen:
    """The entry to serve."""

    entry: Stored
    similarity: float  # cosine, at most 1


class Decider:
    """Decides, and keeps what it has read of recent questions. Not thread-safe."""

    def __init__(
        self, embedder: Embedder, comparer: Comparer | None, recent: int, threshold: float | None = None
    ) -> None:
        """Keep the readings of recent questions with `recent` characters in all."""
        self._strict = (comparer or embedder).strict
        self._compares = comparer is not None
        self._threshold = (comparer or embedder).threshold if threshold is None else threshold
        self._read = Recent(Question.read, recent)
        self.reusable = Recent(
            self_contained, recent
        )  # of a question: None, or why its answer is for this request only

    @property
    def size(self) -> int:
        """Characters of the questions that are kept."""
        return self._read.size

    def judged(self, text: str, candidates: Sequence[tuple[float, Stored]]) -> Chosen | SemanticMiss | list[Stored]:
        """Return the choice among candidates, the best first; or those that are still to be compared with the question.

        There must be one. A number is how similar the vectors are, or how well the tokens are aligned.
        """
        question = self._read(text)
        objections: list[str] = []
        agreed: list[Stored] = []
        for cosine, entry in candidates:
            # `shown_objection` needs this order: the stored question first.
            objection = agree(self._read(entry.question), question, self._strict)
            if objection is not None:
                objections.append(shown_objection(objection, question, text))
            elif not self._compares and cosine < self._threshold:
                objections.append("not similar enough")
            elif not self._compares:
                return Chosen(entry, min(cosine, 1.0))
            else:
                agreed.append(entry)
        if agreed:
            return agreed
        nearest = candidates[0][0]
        return SemanticMiss(reason=f"near ({nearest:.2f}), but {objections[0]}", similarity=nearest)

    def compared(self, agreed: Sequence[Stored], cosines: Sequence[float]) -> Chosen | SemanticMiss:
        """Return the entry that is most similar, if it is similar enough. There is a cosine for each."""
        cosine, index = max((cosine, -index) for index, cosine in enumerate(cosines))
        if cosine < self._threshold:
            return SemanticMiss(reason="nothing near", similarity=cosine)
        return Chosen(agreed[-index], min(cosine, 1.0))
