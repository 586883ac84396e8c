"""Which of the candidates that were found is served, if any. What is not certain is a miss.

Nothing here looks anything up, waits or keeps an entry: texts and what is known of them go in, and a choice or the
reason against it comes out.
"""

from collections.abc import Sequence
from dataclasses import replace

from msgspec import Struct

from millrace.caches.decision import features, mix
from millrace.caches.decision.features import logistic
from millrace.caches.guards import RULES, Judgement, Question, judge
from millrace.caches.learning.knowledge import AS_STRANGERS, Guidance
from millrace.caches.objections import shown_objection
from millrace.caches.partition import Stored
from millrace.caches.recent import Recent
from millrace.caches.reusable import reusable
from millrace.ports import Likeness
from millrace.types import NearAnswer, SemanticMiss

TOO_FAR = "too few words are alike"
VERSION = 4  # increase it when fewer questions may be stored than before: what is on disk is then read again


class Chosen(Struct, frozen=True):
    """The entry to serve."""

    entry: Stored
    near: NearAnswer
    needed: float  # log odds


class Candidate(Struct, frozen=True):
    """A candidate to which no rule objects for good."""

    entry: Stored
    similarity: float  # as it was found
    stored: Question
    asked: Question
    judgement: Judgement
    known: float  # by how much verdicts change its log odds
    is_far: bool  # so little is alike that networks need not compare it


class _Weighed(Struct, frozen=True):
    """A candidate, and the log odds that its answer does, all things known."""

    candidate: Candidate
    log_odds: float
    features: dict[str, float]
    similarity: float  # cosine

    def near(self, asked_id: str, *, is_off: bool = False) -> NearAnswer:
        entry = self.candidate.entry
        return NearAnswer(
            entry_id=entry.id,
            asked_id=asked_id,
            question=entry.question,
            answer=entry.answer,
            log_odds=self.log_odds,
            features=self.features,
            similarity=self.similarity,
            is_off=is_off,
        )


class Decider:
    """Decides, and keeps what it has read of recent questions. Not thread-safe, but for `compared`."""

    def __init__(self, recent: int, *, compares: bool, aligns: bool) -> None:
        """Keep the readings of recent questions with `recent` characters in all.

        `compares` says that candidates without a hard objection are compared by networks, which the weights expect;
        `aligns`, that candidates come with their alignment.
        """
        self._compares, self._spares = compares, compares and aligns  # the networks what is far
        self._read = Recent(Question.read, recent)
        # Of a question: None, or why its answer is for this request only.
        self.reusable = Recent(reusable, recent)

    @property
    def size(self) -> int:
        """Characters of the questions that are kept."""
        return self._read.size

    def judged(
        self, text: str, candidates: Sequence[tuple[float, Stored]], guidance: Guidance
    ) -> Chosen | SemanticMiss | list[Candidate]:
        """Return the choice among candidates, the best first; or those that are still to be compared with the question.

        There must be one. A number is how similar the vectors are, or how well the tokens are aligned. What verdicts or
        rules are sure enough of needs no comparing: the one that verdicts speak for most, or else the first.
        """
        question = self._read(text)
        objections: list[tuple[str, str]] = []  # as it is shown, and by its rule alone
        judged: list[Candidate] = []
        sure: _Weighed | None = None
        for similarity, entry in candidates:
            # `shown_objection` needs this order: the stored question first.
            stored = self._read(entry.question)
            judgement = judge(stored, question)
            if judgement.hard:
                hard = judgement.hard[0]
                objections.append((shown_objection(hard, question, text), RULES[hard.rule].reason))
                continue
            known = guidance.known(entry.id)
            is_far = self._spares and not known and features.is_far(stored, question, judgement, similarity)
            candidate = Candidate(entry, similarity, stored, question, judgement, known, is_far)
            weighed = self._uncompared(candidate, guidance)
            if weighed.log_odds >= guidance.needed and (sure is None or weighed.log_odds > sure.log_odds):
                sure = weighed
            if sure is not None and not candidate.known:
                break  # those that verdicts speak for come first
            judged.append(candidate)
        if sure is not None:
            return _choice([sure], guidance, text)
        if judged:
            return self._to_compare(text, judged, guidance)
        nearest, (shown, kind) = candidates[0][0], objections[0]
        return SemanticMiss(reason=f"near ({nearest:.2f}), but {shown}", similarity=nearest, kind=kind)

    def _uncompared(self, candidate: Candidate, guidance: Guidance) -> _Weighed:
        """Return a candidate with its log odds before it is compared: by verdicts, or because the rules are sure."""
        stored, asked = candidate.stored, candidate.asked
        found = mix.before_networks(stored, asked, candidate.judgement) if self._compares else None
        log_odds = -mix.SURE if found is None else mix.log_odds(guidance.weights, stored, asked, found)
        if candidate.known:
            log_odds = max(log_odds, AS_STRANGERS)
        return _Weighed(candidate, log_odds + candidate.known, found or {}, min(1.0, candidate.similarity))

    def _to_compare(
        self, text: str, judged: list[Candidate], guidance: Guidance
    ) -> Chosen | SemanticMiss | list[Candidate]:
        """Return what is to be compared, or what follows where nothing is."""
        is_far = all(candidate.is_far for candidate in judged)
        if self._compares and not is_far:
            return judged
        found = self.compared(text, judged, [None] * len(judged), guidance)
        if not is_far or isinstance(found, Chosen):
            return found
        return replace(found, reason=f"near ({judged[0].similarity:.2f}), but {TOO_FAR}", kind=TOO_FAR)

    def compared(
        self, text: str, judged: Sequence[Candidate], likenesses: Sequence[Likeness | None], guidance: Guidance
    ) -> Chosen | SemanticMiss:
        """Return the likeliest of the candidates, if it is likely enough. There is a likeness for each, or None.

        That of one that is far does not count.

        This may be called from any thread.
        """
        weighed = [_weigh(each, likeness, guidance) for each, likeness in zip(judged, likenesses, strict=True)]
        return _choice(sorted(weighed, key=lambda each: -each.log_odds), guidance, text)


def _weigh(candidate: Candidate, likeness: Likeness | None, guidance: Guidance) -> _Weighed:
    if candidate.is_far:
        return _Weighed(candidate, -mix.SURE, {}, min(1.0, candidate.similarity))
    found = mix.features_of(candidate.stored, candidate.asked, candidate.judgement, likeness)
    log_odds = mix.log_odds(guidance.weights, candidate.stored, candidate.asked, found)
    if candidate.known and not found:  # too far apart to be compared
        log_odds = max(log_odds, AS_STRANGERS)
    similarity = min(1.0, candidate.similarity if likeness is None else likeness.cosine)
    return _Weighed(candidate, log_odds + candidate.known, found, similarity)


def _choice(weighed: Sequence[_Weighed], guidance: Guidance, text: str) -> Chosen | SemanticMiss:
    """Return the first one, or why it is not served."""
    best = weighed[0]
    is_enough = best.log_odds >= guidance.needed
    if is_enough and not guidance.is_off:
        return Chosen(best.candidate.entry, best.near(guidance.asked_id), guidance.needed)
    near = [best.near(guidance.asked_id, is_off=is_enough), *(each.near(guidance.asked_id) for each in weighed[1:])]
    if is_enough:
        why = kind = "too many answers to near questions were wrong lately"
    else:
        kind, objections = "not sure enough to ask the same", best.candidate.judgement.soft
        shown = f" ({shown_objection(objections[0], best.candidate.asked, text)})" if objections else ""
        why = f"only {logistic(best.log_odds):.0%} sure to ask the same{shown}"
    reason = f"near ({best.similarity:.2f}), but {why}"
    return SemanticMiss(reason=reason, similarity=best.similarity, near=tuple(near), kind=kind, needed=guidance.needed)
