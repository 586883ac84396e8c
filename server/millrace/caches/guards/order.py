"""Who does what to whom: the words of grammar before each word, its article, and the order of shared words."""

from collections.abc import Sequence
from itertools import combinations

from millrace.caches.guards.questions import MAKES
from millrace.caches.guards.words import Word, is_plural, listed, number_differs

# Every preposition must be met by its like, and none by none: one cooks a cat, or for a cat. These few are one.
PREPOSITIONS = {
    preposition: preposition
    for preposition in listed(
        "of in inside within on upon at for to into onto with as from by than before after until till since over above "
        "under below beneath against about regarding concerning except despite between among through via across per "
        "behind beyond near toward towards like instead without along around besides unlike"
    )
} | {"upon": "on", "till": "until", "regarding": "about", "concerning": "about", "towards": "toward"}
_WAYS = frozenset({"from", "to"})  # "to Paris from London" is "from London to Paris"
_PARTICLES = listed("up down off out away back together apart")
_BALANCED = frozenset({"difference", "differ", "compare", "comparison", "similarity", "similar", "both", "choose"})


Pair = tuple[int, int]  # where the same word stands in each of the two texts


def differ(left: Sequence[Word], right: Sequence[Word], pairs: Sequence[Pair]) -> str | None:
    """Compare the places, then what stands before, of the words both texts have; every word is in a pair."""
    if _joints(left) != _joints(right):
        return "and, or differ"
    balanced = any(word.text in _BALANCED for word in left)
    settled = [(i, j) for i, j in sorted(pairs) if not _is_superlative(left, i)]
    for (i, j), (k, m) in combinations(settled, 2):
        if j > m and not _may_swap((left[i], left[k]), right[j], balanced=balanced, apart=(k - i, j - m)):
            return f"order differs: {left[i].text}, {left[k].text}"
    objections = (_leads_differ(left[i], right[j]) or _articles_differ(left[i], right[j]) for i, j in pairs)
    return next((objection for objection in objections if objection), None)


def _leads_differ(left: Word, right: Word) -> str | None:
    if left.lead == right.lead or _made(left.lead, right.lead) or _made(right.lead, left.lead):
        return None
    return f"{left.text}: {' '.join(left.lead) or 'nothing'} / {' '.join(right.lead) or 'nothing'} before it"


def _made(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    return left[:1] == (MAKES,) and right in {left[1:], ("is", *left[1:])}


def _articles_differ(left: Word, right: Word) -> str | None:
    """Compare articles and numbers: `cats` are `a cat`; `the sun` is neither `a sun` nor `suns`; `iron` no `iron`s."""
    if number_differs(left.text, right.text):
        plural, single = (left, right) if is_plural(left.text, right.text) else (right, left)
        alike = (not plural.article and single.article == "a") or (left.named and right.named)
    else:
        alike = left.article == right.article or (left.named and "a" not in {left.article, right.article})
    return None if alike else f"a, the or number differ: {left.article} {left.text} / {right.article} {right.text}"


def _joints(words: Sequence[Word]) -> list[str]:
    return sorted(word.joint for word in words if word.joint)


def _may_swap(left: tuple[Word, Word], other_x: Word, *, balanced: bool, apart: tuple[int, int]) -> bool:
    """Whether x y and y x say the same."""
    x, y = left
    if x.text in _PARTICLES or y.text in _PARTICLES:
        return True
    if {x.place, y.place} == _WAYS:
        return True
    if apart == (1, 1) and y.joint and y.joint == other_x.joint:
        return balanced or y.joint != "and"
    return False


def _is_superlative(words: Sequence[Word], at: int) -> bool:
    """Whether a word is said of all the rest: "what is the fastest x", "which x is the fastest"."""
    return words[at].text.endswith("est") and sum(word.text.endswith("est") for word in words) == 1


def ends_differ(left: tuple[str, ...], right: tuple[str, ...]) -> str | None:
    """Compare the words of grammar that end two texts."""
    return None if left == right else f"{' '.join(left) or 'nothing'} / {' '.join(right) or 'nothing'} at the end"
