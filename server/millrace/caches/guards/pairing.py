"""Which word of one text stands for which of another."""

from collections.abc import Callable, Iterable

from msgspec import Struct, field

from millrace.caches.guards import polarity
from millrace.caches.guards.vocabulary import near
from millrace.caches.guards.words import NUMBER, Word, inflection, number_differs

EQUAL = "equal"
NUMBER_DIFFERS = "number"  # one is the plural of the other
FORM = "form"  # forms of one word: eat, eating, eaten
SYNONYM = "synonym"  # of one meaning
SENSE = "sense"  # synonyms that have other meanings too
TYPO = "typo"  # one is a common word, the other is none and differs by one letter
SHORT = "short"  # one is an abbreviation of the other

_MOST_INITIALS = 6
_LONG_ENOUGH = 4  # letters of a word that may be a typo
_ABBREVIATIONS = frozenset(
    frozenset(pair.split())
    for pair in """
pic picture|info information|app application|db database|tv television|pc computer|js javascript|py python
k8s kubernetes|repo repository|config configuration|docs documentation|dept department|govt government|mins minutes
approx approximately|vs versus|temp temperature|max maximum|min minimum|avg average|acct account|pwd password
pw password|prof professor|dr doctor|st street|ave avenue|uni university|lab laboratory|math mathematics
maths mathematics|math maths|phd doctorate|postgres postgresql|mac macbook|exam examination|ad advertisement
photo photograph|memo memorandum|fridge refrigerator|flu influenza|vet veterinarian|gym gymnasium|auto automobile
env environment|dir directory|admin administrator|ref reference|num number|func function|param parameter
arg argument|char character|int integer|str string|bio biography|carbs carbohydrates|veg vegetables|meds medication
tech technology|biz business|stats statistics|specs specifications
""".replace("\n", "|").split("|")
    if pair.strip()
)


class Pair(Struct, frozen=True):
    """One word of each text that stand for each other."""

    left: int  # its place in the words of the left text
    right: int
    how: str  # one of the constants of this module


class Pairing(Struct, frozen=True):
    """What two texts have in common, word by word, and what only one has."""

    pairs: tuple[Pair, ...] = ()  # in the order of the left text
    replaced: tuple[tuple[Word, Word], ...] = ()  # left and right words that stand in each other's place
    left: tuple[Word, ...] = ()  # words that only the left text has
    right: tuple[Word, ...] = ()
    rest: tuple[tuple[Word, ...], tuple[Word, ...]] = field(default=((), ()))  # all words without a pair, by text


def pair(left: tuple[Word, ...], right: tuple[Word, ...]) -> Pairing:
    """Pair the words of two texts: equal words first, then forms, synonyms, abbreviations and typos."""
    pairs: list[Pair] = []
    free_left, free_right = list(range(len(left))), list(range(len(right)))
    for how in (_equal, _number, _form, _synonym, _sense, _short, _typo):
        if not (free_left and free_right):
            break
        _pair_by(how, left, right, free_left, free_right, pairs)
    if free_left and free_right:
        _pair_initials(left, right, free_left, free_right, pairs)
        _pair_initials(right, left, free_right, free_left, pairs, turned=True)
    pairs.sort(key=lambda pair: pair.left)
    replaced = _replaced(left, right, free_left, free_right, pairs)
    taken = ({i for i, _ in replaced}, {j for _, j in replaced})
    return Pairing(
        tuple(pairs),
        tuple((left[i], right[j]) for i, j in replaced),
        tuple(left[i] for i in free_left if i not in taken[0]),
        tuple(right[j] for j in free_right if j not in taken[1]),
        (tuple(left[i] for i in free_left), tuple(right[j] for j in free_right)),
    )


def _pair_by(
    how: Callable[[Word, Word], str | None],
    left: tuple[Word, ...],
    right: tuple[Word, ...],
    free_left: list[int],
    free_right: list[int],
    pairs: list[Pair],
) -> None:
    for i in tuple(free_left):
        for j in free_right:
            name = how(left[i], right[j])
            if name is not None:
                pairs.append(Pair(i, j, name))
                free_left.remove(i)
                free_right.remove(j)
                break


def _equal(a: Word, b: Word) -> str | None:
    return EQUAL if a.text == b.text else None


def _number(a: Word, b: Word) -> str | None:
    if a.text[0] != b.text[0] or (a.named != b.named and (a.plain or b.plain)):  # Windows, a window
        return None
    differs = number_differs(a.text, b.text)
    return None if differs is None else NUMBER_DIFFERS if differs else EQUAL


def _form(a: Word, b: Word) -> str | None:
    if a.named != b.named and (a.plain or b.plain):
        return None
    return FORM if not a.lemmas.isdisjoint(b.lemmas) else None


def _synonym(a: Word, b: Word) -> str | None:
    if a.senses.isdisjoint(b.senses):
        return None
    return SYNONYM if inflection(a.text) == inflection(b.text) else SENSE


def _sense(a: Word, b: Word) -> str | None:
    if a.meanings.isdisjoint(b.meanings):
        return None
    return None if polarity.opposite(a.text, b.text) else SENSE


def _short(a: Word, b: Word) -> str | None:
    return SHORT if frozenset((a.text, b.text)) in _ABBREVIATIONS else None


def _typo(a: Word, b: Word) -> str | None:
    if a.common == b.common or a.named or b.named or a.text.startswith(NUMBER) or b.text.startswith(NUMBER):
        return None
    if min(len(a.text), len(b.text)) < _LONG_ENOUGH - 1 or max(len(a.text), len(b.text)) < _LONG_ENOUGH:
        return None
    return TYPO if a.text[0] == b.text[0] and a.text.isalpha() and b.text.isalpha() and near(a.text, b.text) else None


def _runs(words: int, letters: int) -> list[tuple[int, int]]:
    """Return where a word of so many letters may be found among free ones: two that make it, or one for each letter."""
    return [(begin, size) for size in (2, letters) for begin in range(words - size + 1)]


def _pair_initials(
    short: tuple[Word, ...],
    long: tuple[Word, ...],
    free_short: list[int],
    free_long: list[int],
    pairs: list[Pair],
    *,
    turned: bool = False,
) -> None:
    """Pair `vpn` with `virtual private network`, and `wifi` with `wi fi`."""
    for i in tuple(free_short):
        text = short[i].text
        for begin, size in _runs(len(free_long), len(text)):
            run = free_long[begin : begin + size]
            if not 1 < size <= _MOST_INITIALS or run[-1] - run[0] != size - 1:
                continue
            joined = "".join(long[j].text for j in run) == text
            if joined or (size == len(text) and "".join(long[j].text[0] for j in run) == text):
                how = EQUAL if joined else SHORT
                pairs.append(Pair(run[0], i, how) if turned else Pair(i, run[0], how))
                free_short.remove(i)
                del free_long[begin : begin + size]
                break


def _replaced(
    left: tuple[Word, ...],
    right: tuple[Word, ...],
    free_left: Iterable[int],
    free_right: Iterable[int],
    pairs: list[Pair],
) -> list[tuple[int, int]]:
    """Return which words stand in each other's place: after the same pair, or else in the order of their texts."""
    before_left = {i: max((pair.right for pair in pairs if pair.left < i), default=-1) for i in free_left}
    found: list[tuple[int, int]] = []
    rest = list(free_right)
    for i in free_left:
        if not rest:
            break
        j = next((j for j in rest if j > before_left[i]), rest[0])
        rest.remove(j)
        found.append((i, j))
    return found
