"""Who does what to whom: the function words before each word, its article, and the order of shared words."""

from collections.abc import Sequence
from itertools import combinations

from millrace.caches.guards.questions import MAKES
from millrace.caches.guards.words import Word, is_plural, listed, number_differs

# A preposition must stand in both texts, since cooking a cat is not cooking for a cat. These few pairs are equal.
PREPOSITIONS = {
    preposition: preposition
    for preposition in listed(
        "of in inside within on upon at for to into onto with as from by than before after until till since over above "
        "under below beneath against about regarding concerning except despite between among through via across per "
        "behind beyond near toward towards like instead without along around besides unlike"
    )
} | {"upon": "on", "till": "until", "regarding": "about", "concerning": "about", "towards": "toward"}
_FROM_TO = frozenset({"from", "to"})  # "to Paris from London" is "from London to Paris"
_PARTICLES = listed("up down off out away back together apart")
_BALANCED = frozenset({"difference", "differ", "compare", "comparison", "similarity", "similar", "both", "choose"})


Pair = tuple[int, int]  # indices of one word in the left and the right text


def differ(left: Sequence[Word], right: Sequence[Word], pairs: Sequence[Pair]) -> str | None:
    """Compare the order of the words, then what stands before each. Every word of both texts must be in a pair."""
    if _joints(left) != _joints(right):
        return "and, or differ"
    balanced = any(word.text in _BALANCED for word in left)
    ordered = [(i, j) for i, j in sorted(pairs) if not _is_superlative(left, i)]
    for (i, j), (k, m) in combinations(ordered, 2):
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
    """Compare articles and number: `cats` is `a cat`, `the sun` is neither `a sun` nor `suns`, `iron` not `irons`."""
    if number_differs(left.text, right.text):
        plural, single = (left, right) if is_plural(left.text, right.text) else (right, left)
        same = (not plural.article and single.article == "a") or (left.named and right.named)
    else:
        same = left.article == right.article or (left.named and "a" not in {left.article, right.article})
    return None if same else f"a, the or number differ: {left.article} {left.text} / {right.article} {right.text}"


def _joints(words: Sequence[Word]) -> list[str]:
    return sorted(word.joint for word in words if word.joint)


def _may_swap(left: tuple[Word, Word], other_x: Word, *, balanced: bool, apart: tuple[int, int]) -> bool:
    """Whether two words may stand in either order."""
    x, y = left
    if x.text in _PARTICLES or y.text in _PARTICLES:
        return True
    if {x.place, y.place} == _FROM_TO:
        return True
    if apart == (1, 1) and y.joint and y.joint == other_x.joint:
        return balanced or y.joint != "and"
    return False


def _is_superlative(words: Sequence[Word], at: int) -> bool:
    """Whether a word is the only superlative: "what is the fastest x" is "which x is the fastest"."""
    return words[at].text.endswith("est") and sum(word.text.endswith("est") for word in words) == 1


def ends_differ(left: tuple[str, ...], right: tuple[str, ...]) -> str | None:
    """Compare the function words that end two texts."""
    return None if left == right else f"{' '.join(left) or 'nothing'} / {' '.join(right) or 'nothing'} at the end"
