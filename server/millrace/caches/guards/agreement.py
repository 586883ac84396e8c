"""Whether two questions have the same answer: every guard must agree, and doubt is a miss."""

from collections.abc import Callable

from millrace.caches.guards import entities, numbers, order, polarity, questions
from millrace.caches.guards.order import Pair
from millrace.caches.guards.question import Question
from millrace.caches.guards.questions import DOING
from millrace.caches.guards.words import NUMBER, Word, inflection, number_differs

_LATER = frozenset({"how", "why", "when", "where", "many", "long"})  # a later "what" or "who" may be relative


def agree(a: Question, b: Question, strict: bool) -> str | None:  # noqa: FBT001 - the embedder's own flag
    """Return None if every guard agrees, else the first objection.

    Under `strict` no word may stand for another.
    """
    if a.verbatim is not None or b.verbatim is not None:
        return None if a.verbatim == b.verbatim else "wording differs in code or another language than English"
    if not (a.words and b.words):
        return "nothing to compare"
    for differs in (_frames, _numbers, _polarity):
        objection = differs(a, b)
        if objection:
            return objection
    pairs = _pairs(a.words, b.words, synonyms=not (strict or a.wording or b.wording))
    left, right = _unpaired(a.words, b.words, pairs)
    if left or right:
        return _unpaired_objection(left, right)
    return order.differ(a.words, b.words, pairs) or order.ends_differ(a.trailing, b.trailing)


def _frames(a: Question, b: Question) -> str | None:
    if a.quoted != b.quoted:
        return "quoted words differ"
    if not questions.kinds_agree(a.kind, b.kind) or _later(a) != _later(b):
        return f"question words differ: {' '.join(a.kinds) or 'none'} / {' '.join(b.kinds) or 'none'}"
    if a.modals != b.modals and not a.modals & b.modals:
        return "can, should, must or will differ"
    if (a.tense == "past") != (b.tense == "past"):
        return "tenses differ"
    if a.persons != b.persons or (a.kind != "how" and {a.owner, b.owner} == {"my", "your"}):
        return "I and you differ"
    return None


def _later(question: Question) -> list[str]:
    return sorted(kind for kind in question.kinds[1:] if kind in _LATER)


def _numbers(a: Question, b: Question) -> str | None:
    return numbers.differ(a.numbers, b.numbers)


def _polarity(a: Question, b: Question) -> str | None:
    return polarity.differ(a.negations, b.negations, clauses=a.clauses or b.clauses)


def _pairs(left: tuple[Word, ...], right: tuple[Word, ...], *, synonyms: bool) -> list[Pair]:
    """Pair the words of two texts: equal words first, then synonyms."""
    pairs: list[Pair] = []
    for matches in (_equal, _interchangeable) if synonyms else (_equal,):
        _pair_by(matches, left, right, pairs)
    return pairs


def _pair_by(
    matches: Callable[[Word, Word], bool], left: tuple[Word, ...], right: tuple[Word, ...], pairs: list[Pair]
) -> None:
    taken_left, taken_right = {i for i, _ in pairs}, {j for _, j in pairs}
    for i, word in enumerate(left):
        if i in taken_left:
            continue
        match = next((j for j, other in enumerate(right) if j not in taken_right and matches(word, other)), None)
        if match is not None:
            pairs.append((i, match))
            taken_right.add(match)


def _equal(a: Word, b: Word) -> bool:
    if a.named or b.named or a.text.startswith(NUMBER):
        return entities.same(a, b)
    if number_differs(a.text, b.text) is not None:
        return True
    # "Is eating it safe" equals "is it safe to eat". Elsewhere "eating" and "to eat" differ.
    return DOING in a.lead and DOING in b.lead and bool(a.lemmas & b.lemmas)


def _interchangeable(a: Word, b: Word) -> bool:
    synonymous = bool(a.meanings & b.meanings) and inflection(a.text) == inflection(b.text)
    return synonymous and not polarity.opposite(a.text, b.text)


def _unpaired(left: tuple[Word, ...], right: tuple[Word, ...], pairs: list[Pair]) -> tuple[list[Word], list[Word]]:
    paired_left, paired_right = {i for i, _ in pairs}, {j for _, j in pairs}
    return (
        [word for i, word in enumerate(left) if i not in paired_left],
        [word for j, word in enumerate(right) if j not in paired_right],
    )


def _unpaired_objection(left: list[Word], right: list[Word]) -> str:
    for a in left:
        for b in right:
            if polarity.opposite(a.text, b.text):
                return f"opposites: {a.text} / {b.text}"
    if left and right:
        names = any(entities.may_be_name(word) for word in (left[0], right[0]))
        return f"{'names' if names else 'words'} differ: {left[0].text} / {right[0].text}"
    return f"only one says: {(left or right)[0].text}"
