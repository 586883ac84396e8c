"""What the semantic cache decides of two questions by themselves, as one value with all its reasons.

The probability is the cosine where all guards agree.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from millrace.caches.guards import Question, agree, self_contained
from millrace.ports import Aligner, Comparer, Embedder
from millrace.types import Decision, Objection

NOT_FOUND = "not found"  # the rule of a pair whose stored question is not looked at


class Judge:
    """Decides pairs as a cache that has one of the two questions would decide on the other one."""

    def __init__(
        self,
        embedder: Embedder,
        aligner: Aligner | None = None,
        comparer: Comparer | None = None,
        *,
        prepare: Callable[[str], Awaitable[None]] | None = None,  # must be awaited before a text is embedded
        threshold: float | None = None,  # of the probability; None: the one that is shipped
    ) -> None:
        self.embedder = embedder
        self.threshold = (comparer or embedder).threshold if threshold is None else threshold
        self._aligner = aligner
        self._comparer = comparer
        self._prepare = prepare

    async def decide(self, stored: str, asked: str) -> Decision:
        """Return the decision on one pair. Raises `ComparingError`, or `EmbeddingError`."""
        (decision,) = await self.decide_all([(stored, asked)])
        return decision

    async def decide_all(self, pairs: Sequence[tuple[str, str]], *, all_compared: bool = True) -> list[Decision]:
        """Return the decision on each pair of a stored and an asked question.

        Without `all_compared`, those that are ruled out are not compared, which takes most of the time.
        """
        await self.prepare(text for pair in pairs for text in pair)
        ruled_out = [self._ruled_out(*pair) for pair in pairs]
        wanted = [all_compared or not any(reasons) for reasons in ruled_out]
        compared = await self._cosines([pair for pair, is_wanted in zip(pairs, wanted, strict=True) if is_wanted])
        cosines = iter(compared)
        return [
            self._decided(*reasons, next(cosines) if is_wanted else None)
            for reasons, is_wanted in zip(ruled_out, wanted, strict=True)
        ]

    async def prepare(self, texts: Iterable[str]) -> None:
        """Have texts embedded that `embedder` is to embed next. Raises `EmbeddingError`."""
        if self._prepare is not None:
            await asyncio.gather(*map(self._prepare, dict.fromkeys(texts)))

    async def _cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if self._comparer is None:
            return [min(float(self.embedder.embed(a) @ self.embedder.embed(b)), 1.0) for a, b in pairs]
        compared = [asyncio.wrap_future(self._comparer.compare(asked, [stored])) for stored, asked in pairs]
        return [min(cosine, 1.0) for (cosine,) in await asyncio.gather(*compared)]

    def _ruled_out(self, stored: str, asked: str) -> tuple[tuple[str, ...], tuple[Objection, ...]]:
        """Return which of the two is not reusable, and the objections, all of which are hard."""
        sides = (("the stored question", stored), ("the question", asked))
        refused = tuple(f"{side}: {reason}" for side, text in sides if (reason := self_contained(text)) is not None)
        objections = (self._not_found(stored, asked), self._objection(stored, asked))
        return refused, tuple(each for each in objections if each is not None)

    def _decided(self, refused: tuple[str, ...], objections: tuple[Objection, ...], cosine: float | None) -> Decision:
        probability = None if refused or objections else cosine
        return Decision(
            served=probability is not None and probability >= self.threshold,
            refused=refused,
            objections=objections,
            cosine=cosine,
            probability=probability,
            threshold=self.threshold,
        )

    def _objection(self, stored: str, asked: str) -> Objection | None:
        strict = (self._comparer or self.embedder).strict
        reason = agree(Question.read(stored), Question.read(asked), strict)
        if reason is None:
            return None
        rule, _, words = reason.partition(": ")
        return Objection(rule=rule, reason=words, is_hard=True)

    def _not_found(self, stored: str, asked: str) -> Objection | None:
        """Say whether the stored question would not even be looked at."""
        cosine = float(self.embedder.embed(stored) @ self.embedder.embed(asked))
        if cosine < self.embedder.threshold:
            reason = f"too far apart to be looked at ({cosine:.2f}, below {self.embedder.threshold:.2f})"
            return Objection(rule=NOT_FOUND, reason=reason, is_hard=True)
        if self._aligner is None:
            return None
        (aligned,) = self._aligner.align(self._aligner.tokens(asked), [self._aligner.tokens(stored)])
        if aligned >= self._aligner.least:
            return None
        reason = f"too few words are alike ({aligned:.2f}, below {self._aligner.least:.2f})"
        return Objection(rule=NOT_FOUND, reason=reason, is_hard=True)
