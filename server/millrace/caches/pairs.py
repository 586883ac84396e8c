"""What the semantic cache decides of two questions by themselves, as one value with all its reasons.

It is what a cache would decide that had one of the two and was asked the other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from msgspec import Struct

from millrace.caches.decider import TOO_FAR
from millrace.caches.decision import features
from millrace.caches.decision.mix import probability, weights_for
from millrace.caches.guards import Judgement, Question, judge
from millrace.caches.reusable import reusable
from millrace.ports import Aligner, Comparer, Embedder, Likeness
from millrace.types import Decision, Objection

NOT_FOUND = "not found"  # the rule of a pair whose stored question is not looked at


class _Read(Struct, frozen=True):
    """A pair, and what is known of it before it is compared."""

    stored: str
    asked: str
    refused: tuple[str, ...]  # why one of the two is not reusable
    objections: tuple[Objection, ...]
    questions: tuple[Question, Question]
    judgement: Judgement

    @property
    def is_ruled_out(self) -> bool:
        return bool(self.refused) or any(each.is_hard for each in self.objections)


class PairJudge:
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
        self._weights = weights_for(comparer)
        self.decide_by(threshold)
        self._aligner = aligner
        self._comparer = comparer
        self._prepare = prepare

    def decide_by(self, threshold: float | None) -> None:
        """Serve from another probability on; None: the shipped one."""
        self.threshold = self._weights.threshold if threshold is None else threshold

    async def decide(self, stored: str, asked: str) -> Decision:
        """Return the decision on one pair. Raises `ComparingError`, or `EmbeddingError`."""
        (decision,) = await self.decide_all([(stored, asked)])
        return decision

    async def decide_all(self, pairs: Sequence[tuple[str, str]], *, all_compared: bool = True) -> list[Decision]:
        """Return the decision on each pair of a stored and an asked question.

        Without `all_compared`, those that are ruled out are not compared, which takes most of the time.
        """
        await self.prepare(text for pair in pairs for text in pair)
        read = await asyncio.to_thread(lambda: [self._read(*pair) for pair in pairs])  # long texts take a second
        wanted = [each for each in read if all_compared or not each.is_ruled_out]
        likenesses = iter(await self._likenesses(wanted))
        return [
            self._decided(each, next(likenesses) if all_compared or not each.is_ruled_out else None) for each in read
        ]

    async def prepare(self, texts: Iterable[str]) -> None:
        """Have texts embedded that `embedder` is to embed next. Raises `EmbeddingError`."""
        if self._prepare is not None:
            await asyncio.gather(*map(self._prepare, dict.fromkeys(texts)))

    async def _likenesses(self, pairs: Sequence[_Read]) -> list[Likeness | None]:
        if self._comparer is None:
            return [None] * len(pairs)
        compared = [asyncio.wrap_future(self._comparer.compare(pair.asked, [pair.stored])) for pair in pairs]
        return [likeness for (likeness,) in await asyncio.gather(*compared)]

    def _read(self, stored: str, asked: str) -> _Read:
        sides = (("the stored question", stored), ("the question", asked))
        refused = tuple(f"{side}: {reason}" for side, text in sides if (reason := reusable(text)) is not None)
        left, right = Question.read(stored), Question.read(asked)
        judgement = judge(left, right, fully=True)
        not_found = self._not_found(stored, asked, left, right, judgement)
        objections = (*([] if not_found is None else [not_found]), *_told(judgement))
        return _Read(stored, asked, refused, objections, (left, right), judgement)

    def _decided(self, read: _Read, likeness: Likeness | None) -> Decision:
        chance = None if read.is_ruled_out else probability(self._weights, *read.questions, read.judgement, likeness)
        return Decision(
            served=chance is not None and chance >= self.threshold,
            refused=read.refused,
            objections=read.objections,
            cosine=None if likeness is None else min(likeness.cosine, 1.0),
            probability=chance,
            threshold=self.threshold,
        )

    def _not_found(self, stored: str, asked: str, a: Question, b: Question, judgement: Judgement) -> Objection | None:
        """Say whether the stored question would not even be looked at, or not be compared."""
        cosine = float(self.embedder.embed(stored) @ self.embedder.embed(asked))
        if cosine < self.embedder.threshold:
            reason = f"too far apart to be looked at ({cosine:.2f}, below {self.embedder.threshold:.2f})"
            return Objection(rule=NOT_FOUND, reason=reason, is_hard=True)
        if self._aligner is None:
            return None
        (aligned,) = self._aligner.align(self._aligner.tokens(asked), [self._aligner.tokens(stored)])
        if aligned < self._aligner.least:
            reason = f"{TOO_FAR} ({aligned:.2f}, below {self._aligner.least:.2f})"
        elif self._comparer is not None and not judgement.hard and features.is_far(a, b, judgement, aligned):
            reason = TOO_FAR
        else:
            return None
        return Objection(rule=NOT_FOUND, reason=reason, is_hard=True)


def _told(judgement: Judgement) -> Iterable[Objection]:
    for objections, is_hard in ((judgement.hard, True), (judgement.soft, False)):
        for each in objections:
            yield Objection(rule=each.rule, reason=each.reason, is_hard=is_hard)
