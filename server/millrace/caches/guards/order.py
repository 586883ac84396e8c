"""Who does what to whom: the order of the words that two texts share, their phrases, and the voice of their verbs."""

from collections.abc import Sequence
from itertools import combinations, pairwise

from millrace.caches.guards.pairing import FORM, SENSE, SYNONYM, Pair
from millrace.caches.guards.polarity import superlative
from millrace.caches.guards.questions import MAKES
from millrace.caches.guards.words import Word, is_plural, listed, number_differs

# A few prepositions of one meaning stand for each other.
PREPOSITIONS = {
    preposition: preposition
    for preposition in listed(
        "of in inside within on upon at for to into onto with as from by than before after until till since over above "
        "under below beneath against about regarding concerning except despite between among through via across per "
        "behind beyond near toward towards like instead without along around besides unlike during if when because "
        "while although whereas unless once versus"
    )
} | {"upon": "on", "till": "until", "regarding": "about", "concerning": "about", "towards": "toward", "onto": "on",
     "into": "in", "within": "in"}  # fmt: skip
CLAUSES = listed("if when because while although whereas unless once")
_OPPOSED = {
    frozenset(pair.split())
    for pair in [
        "from to",
        "before after",
        "with without",
        "for against",
        "over under",
        "above below",
        "on off",
        "in from",
        "up down",
        "inside outside",
        "toward from",
        "until after",
        "since until",
        "than as",
        "like unlike",
        "by to",
        "by for",
        "about by",
        "despite because",
        "before since",
        "before until",
        "with against",
        "instead with",
        "besides except",
        "before during",
        "after during",
    ]
}
_PARTICLES = listed("up down off out away back together apart over")
_CONTAINERS = listed(
    "glass cup bottle box can bowl bag jar pot plate spoon tin carton barrel bucket mug pack packet tube basket case"
)
_HELPING = listed("do did can will should would must may might shall")
_BALANCED = listed("difference differ compare comparison similarity similar both choose better best versus vs")
_GENITIVE = listed("of in for on about")
_NEAR = 3  # words of a compound, at most


def turned(
    left: Sequence[Word], right: Sequence[Word], pairs: Sequence[Pair], *, loose: bool, preambles: tuple[int, int]
) -> tuple[int, int] | None:
    """Return two words of the left text that the right one has in another order with another meaning.

    `loose`: one of the texts is a few keywords, whose order means little. `preambles`: the number of words before the
    question itself, as in "My tyre is flat, how do I fix it?"; they may stand anywhere in a text without a preamble.
    """
    rights = [pair.right for pair in pairs]
    if all(a < b for a, b in pairwise(rights)):
        return None
    superlatives = {pair.left for pair in pairs if superlative(left[pair.left].text)}
    balanced = any(word.text in _BALANCED for word in left) and any(word.text in _BALANCED for word in right)
    back = [_back(pair) for pair in pairs]
    for one, two in combinations(pairs, 2):
        if one.right < two.right or (len(superlatives) == 1 and superlatives & {one.left, two.left}):
            continue
        if loose and not (left[one.left].named and left[two.left].named):
            continue
        if (one.left < preambles[0] <= two.left) or (two.right < preambles[1] <= one.right):
            continue
        if balanced and (left[two.left].part != left[one.left].part or right[two.right].part != right[one.right].part):
            continue
        if not (_may_swap(left, right, one, two, pairs) or _may_swap(right, left, _back(two), _back(one), back)):
            return one.left, two.left
    return None


def _back(pair: Pair) -> Pair:
    return Pair(pair.right, pair.left, pair.how)


def _may_swap(left: Sequence[Word], right: Sequence[Word], one: Pair, two: Pair, pairs: Sequence[Pair]) -> bool:
    """Whether a word before another in the left text may come after it in the right one."""
    x, y, other_x, other_y = left[one.left], left[two.left], right[one.right], right[two.right]
    if x.text in _PARTICLES or y.text in _PARTICLES:
        return True
    if (one.left + 1, two.right + 1) == (two.left, one.right) and y.joint and y.joint == other_x.joint:
        return True
    return (
        _is_moved_phrase(left, right, one, two)
        or _is_compound(x, y, other_x, other_y, two.right - one.right)
        or _is_other_voice(left, right, one, two, pairs)
    )


def _is_moved_phrase(left: Sequence[Word], right: Sequence[Word], one: Pair, two: Pair) -> bool:
    x, y, other_x, other_y = left[one.left], left[two.left], right[one.right], right[two.right]
    if x.place and x.place == other_x.place and y.place == other_y.place and x.phrase != y.phrase:
        both = y.place and "of" not in {x.place, y.place}
        if both and y.phrase - x.phrase == 1 and other_x.phrase - other_y.phrase == 1:
            return True
        # At the beginning of one text, and at the end of the other.
        if x.phrase == left[0].phrase and other_x.phrase == right[-1].phrase and left[0].place == x.place:
            return True
    return False


def _is_compound(x: Word, y: Word, other_x: Word, other_y: Word, apart: int) -> bool:
    """Whether `x of y` became `y x`, as in `the version of Python`, `the Python version`."""
    if x.text.endswith("ing") and apart == -1 and not (y.place and x.phrase != y.phrase):  # biting nails, nail biting
        return not other_x.article
    if y.place not in _GENITIVE or x.phrase == y.phrase or x.text in _CONTAINERS:
        return False
    if (y.named and other_y.plain) or (y.plain and other_y.named):  # a swift response is none in Swift
        return False
    return -_NEAR <= apart < 0 and other_x.phrase == other_y.phrase and not other_x.article and not other_x.joint


def _is_other_voice(left: Sequence[Word], right: Sequence[Word], one: Pair, two: Pair, pairs: Sequence[Pair]) -> bool:
    """Whether a verb is passive in one text only, and each of two words, if it is not that verb, has the same role."""
    for verb in pairs:
        if left[verb.left].passive == right[verb.right].passive or verb.how not in {"equal", FORM, SYNONYM, SENSE}:
            continue
        roles = [
            (_role(left, verb.left, noun.left), _role(right, verb.right, noun.right))
            for noun in (one, two)
            if noun is not verb
        ]
        if all(a == b for a, b in roles) and any(a for a, _ in roles):
            return True
    return False


def _role(words: Sequence[Word], verb: int, noun: int) -> str:
    """Return whether a word is the "agent" or the "patient" of a verb, or an empty string for neither."""
    is_passive, place = words[verb].passive, words[noun].place
    if noun > verb:
        if is_passive:
            return "agent" if place == "by" else ""
        return "patient" if words[noun].phrase == words[verb].phrase else ""
    if place and words[noun].phrase != words[verb].phrase and place not in {"if", "when", "because"}:
        return ""
    is_fronted = any(
        not _HELPING.isdisjoint(word.lead) for word in words[noun + 1 : verb + 1]
    )  # "which bread do owls eat"
    return "patient" if is_passive or is_fronted else "agent"


def role_differs(left: Sequence[Word], right: Sequence[Word], pairs: Sequence[Pair]) -> tuple[int, int] | None:
    """Return a noun and its verb that has another voice in the right text, but whose noun has not moved with it."""
    for verb in pairs:
        if left[verb.left].passive == right[verb.right].passive:
            continue
        for noun in pairs:
            if left[noun.left].text.endswith("."):  # an ordinal: when was it first climbed
                continue
            if noun is not verb and abs(noun.left - verb.left) <= _NEAR and abs(noun.right - verb.right) <= _NEAR:
                one, two = _role(left, verb.left, noun.left), _role(right, verb.right, noun.right)
                if one and two and one != two:
                    return noun.left, verb.left
    return None


def direction_differs(left: Sequence[Word], right: Sequence[Word], pairs: Sequence[Pair]) -> tuple[Word, Word] | None:
    """Return a word whose preposition is the opposite in the other text: from Paris, to Paris."""
    for pair in pairs:
        a, b = left[pair.left], right[pair.right]
        if (
            a.lead != b.lead
            and a.passive == b.passive
            and any(frozenset((x, y)) in _OPPOSED for x in a.lead for y in b.lead)
        ):
            return a, b
    return None


# Pairs of prepositions, or of one and none, of which either changes what is asked of the same words.
_TELLING = {
    frozenset(pair.split("-"))
    for pair in [
        "for-to",
        "for-",
        "as-",
        "as-for",
        "as-in",
        "as-with",
        "with-",
        "at-",
        "about-",
        "at-by",
        "on-by",
        "in-by",
        "for-by",
        "to-by",
        "from-",
        "from-of",
    ]
}


def preposition_differs(left: Sequence[Word], right: Sequence[Word], pairs: Sequence[Pair]) -> tuple[Word, Word] | None:
    """Return a word that follows a preposition which says something else in the other text, or is missing there."""
    for pair in pairs:
        a, b = left[pair.left], right[pair.right]
        if a.lead != b.lead and a.passive == b.passive:
            one, other = ([lead for lead in word.lead if lead in PREPOSITIONS] or [""] for word in (a, b))
            if frozenset((one[-1], other[-1])) in _TELLING:
                return a, b
    return None


def leads_differ(left: Word, right: Word) -> bool:
    """Whether other function words stand before a word."""
    return not (left.lead == right.lead or _made(left.lead, right.lead) or _made(right.lead, left.lead))


def _made(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    return left[:1] == (MAKES,) and right in {left[1:], ("is", *left[1:])}


def articles_differ(left: Word, right: Word) -> bool:
    """Compare articles and number: `cats` is `a cat`, `the sun` is neither `a sun` nor `suns`, `iron` not `irons`."""
    if number_differs(left.text, right.text):
        plural, single = (left, right) if is_plural(left.text, right.text) else (right, left)
        return not ((not plural.article and single.article == "a") or (left.named and right.named))
    return not (left.article == right.article or (left.named and "a" not in {left.article, right.article}))
