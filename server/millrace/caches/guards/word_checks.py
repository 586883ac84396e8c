"""What each rule looks for in the words of two texts. A check returns those that it objects to, or None."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from millrace.caches.guards import order, polarity, questions
from millrace.caches.guards.pairing import FORM, NUMBER_DIFFERS, SENSE, SHORT, TYPO, Pairing
from millrace.caches.guards.question import COMMAND, KEYWORDS, STRONG_WORDING, Question
from millrace.caches.guards.said import NOTHING, Said, only, turned
from millrace.caches.guards.siblings import siblings
from millrace.caches.guards.text_checks import kind_of
from millrace.caches.guards.vocabulary import alike as alike_in_spelling
from millrace.caches.guards.words import NUMBER, Word, inflection, listed, number_differs

# Hard.


def opposites(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find opposites among the words that only one text has."""
    found = _first(
        (x.text, y.text) for x in pairing.rest[0] for y in pairing.rest[1] if polarity.opposite(x.text, y.text)
    )
    return found or _particle(pairing.rest[0], b.words) or turned(_particle(pairing.rest[1], a.words))


_PARTICLES = {"off": "on", "on": "off", "out": "in", "in": "out", "up": "down", "down": "up", "over": "under"}


def _particle(words: Iterable[Word], others: Iterable[Word]) -> Said | None:
    """Find "off" against "on" before a word of the other text."""
    leads = {lead for word in others for lead in word.lead}
    return _first((word.text, _PARTICLES[word.text]) for word in words if _PARTICLES.get(word.text) in leads)


def reversing(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Find a word that reverses the question, such as avoid, or says that it is partly so, in one text only."""
    for kind in (polarity.REVERSING, polarity.PARTLY):
        left, right = ([word for word in rest if not kind.isdisjoint(word.lemmas)] for rest in pairing.rest)
        if bool(left) != bool(right):
            return (left[0].text, "") if left else ("", right[0].text)
    return None


def names(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Find names that stand in each other's place."""
    left, right = (_rare(rest) for rest in pairing.rest)
    if left and right and (left[0].named or right[0].named):
        return left[0].text, right[0].text
    return _first(
        (x.text, y.text)
        for x, y in pairing.replaced
        if (x.named and y.named)
        or (x.named and not y.common)
        or (y.named and not x.common)
        or (x.named != y.named and not x.lemmas.isdisjoint(y.lemmas))  # Windows, a window
    )


_PLACES = listed("city state county river lake bay island university college airport province republic")


# What the name of another place begins with.
_NEWER = listed("new san saint papua equatorial upper lower american french british dutch")
_AS_UNITS = listed("metre gram litre hour second celsius fahrenheit")  # as which m, g and so on are read after a number


def _after_number(before: Word | None, word: Word, other: Question) -> bool:
    """Whether a letter or unit follows a number that the other text has bare: an iPhone 4s is no iPhone 4."""
    if before is None or not before.text.startswith(NUMBER):
        return False
    if word.text == "second" and before.text.endswith("0"):  # as which the end of "1980s" is read
        return False
    return (len(word.text) == 1 and word.text.isalpha()) or (word.text in _AS_UNITS and not other.units)


def _is_name(word: Word, after: Word) -> bool:
    """Whether two words make a name: French Polynesia, and where none has a capital, american samoa."""
    is_rare = not (word.common or after.common or after.lead or after.article or after.text.startswith(NUMBER))
    return (word.named and after.named) or is_rare


# Of what follows them only a part, or another one.
_PARTS = listed(
    "upper lower inner outer front rear north south east west northern southern eastern western former vice deputy "
    "assistant half junior senior breast"
)


def part(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """The upper back is only a part of the back, and a vice president is no president."""
    left, right = pairing.rest
    if len(left) + len(right) != 1:
        return None
    side, word = (a, left[0]) if left else (b, right[0])
    at = side.words.index(word) + 1
    if word.text not in _PARTS or at == len(side.words) or side.words[at].lead or side.words[at].article:
        return None
    return (word.text, "") if left else ("", word.text)


# What follows the name of a product, or its number.
_MODELS = listed("pro plus max mini ultra lite turbo slim air zero premium")


def longer_name(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Kansas City is not Kansas, and an iPhone 12 Pro no iPhone 12."""
    for words, side in ((pairing.rest[0], a.words), (pairing.rest[1], b.words)):
        for word in words:
            at = side.index(word)
            around = [side[at - 1]] if at and not word.lead and not word.article else []
            around += [side[at + 1]] if at + 1 < len(side) and not (side[at + 1].lead or side[at + 1].article) else []
            before = side[at - 1] if at and not word.lead and not word.article else None
            is_model = before is not None and (before.named or not before.common) and word.text in _MODELS
            after = side[at + 1] if at + 1 < len(side) else None
            is_new = word.text in _NEWER and after is not None and after.text != "year" and _is_name(word, after)
            if is_new or _after_number(before, word, b if side is a.words else a):
                return (word.text, "") if side is a.words else ("", word.text)
            is_place = word.text in _PLACES and any(not x.common and not x.text.startswith(NUMBER) for x in around)
            if is_model or is_place:
                return (word.text, "") if side is a.words else ("", word.text)
    return None


def rare_words(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Find a word on each side that is no common one."""
    left, right = (_rare(rest) for rest in pairing.rest)
    return (left[0].text, right[0].text) if left and right else None


def _rare(words: Iterable[Word]) -> list[Word]:
    return [word for word in words if not word.common and not word.text.startswith(NUMBER)]


def of_one_kind(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Find two words that exclude each other: cats and dogs."""
    return _first((x.text, y.text) for x in pairing.rest[0] for y in pairing.rest[1] if siblings(x.lemmas, y.lemmas))


def alike(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Two words that differ in one letter, both of which are words."""
    return _first(
        (x.text, y.text) for x, y in pairing.replaced if x.common and y.common and alike_in_spelling(x.text, y.text)
    )


# Words that with a capital are something else: a product, a country, a test, a type of a programming language.
_ALSO_NAMES = listed(
    "windows pages teams word numbers access outlook slack zoom signal echo edge notion square discord switch steam "
    "turkey china polish nice bath reading mobile cork chad jordan march may lent mercury rust swift go dart ruby "
    "amber apple amazon shell gap oracle aids sat act pet cat job set map string boolean object array "
    "optional long char integer symbol record date"
)


def word_or_name(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Tell China from china, where one text writes a name and the other would."""
    return _first(said for said in _capitals(a, b, pairing) if said[0] in _ALSO_NAMES)


def degree(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Tell big from bigger and biggest."""
    return _first(
        (x.text, y.text) for x in pairing.rest[0] for y in pairing.rest[1] if _is_degree(x, y) or _is_degree(y, x)
    )


def _is_degree(word: Word, higher: Word) -> bool:
    """Whether a word is a degree of another. What is inflected as a verb or noun has none: a singer sings."""
    is_inflected = word.text.endswith("s") and len(word.lemmas) > 1
    return not is_inflected and not word.lemmas.isdisjoint(polarity.stems(higher.text))


_FEW_WORDS = 4  # content words: of so few in a question about words, each is one that is asked about


def _said(words: list[Word]) -> str:
    return words[0].text if words else ""


def words_as_words(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find other words, or synonyms, in a question about words."""
    if not (a.wording or b.wording):
        return None
    left, right = ([word for word in rest if STRONG_WORDING.isdisjoint(word.lemmas)] for rest in pairing.rest)
    if (left and right) or ((left or right) and min(len(a.words), len(b.words)) <= _FEW_WORDS):
        return _said(left), _said(right)
    odd = next((pair for pair in pairing.pairs if pair.how in {"synonym", SENSE}), None)
    return None if odd is None else (a.words[odd.left].text, b.words[odd.right].text)


_TOPICS = listed("grammar operator statement keyword sentence english used between")
_NEVER_TOPICS = listed("i you we they my your do does did is are the what which how me")


def grammar_as_topic(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find grammar words that are asked about: when to use may, when to use can."""
    mentioned = _mentioned(a), _mentioned(b)
    if mentioned[0] != mentioned[1] and len(mentioned[0]) == len(mentioned[1]):
        return " ".join(mentioned[0]), " ".join(mentioned[1])
    if pairing.rest != ((), ()) or _TOPICS.isdisjoint(a.plain) or _TOPICS.isdisjoint(b.plain):
        return None
    left, right = (Counter(side.plain) for side in (a, b))
    left, right = left - right, right - left
    if a.kinds != b.kinds or (left.total(), right.total()) != (1, 1):
        return None
    x, y = min(left), min(right)
    return None if x in _NEVER_TOPICS and y in _NEVER_TOPICS and "grammar" not in a.plain else (x, y)


_ARTICLES = listed("a an the")
_VERBS = listed("is are was were am do does did has have had")
# No noun, so an article before it is a word that is spoken of: "write the before a river".
_NO_NOUN = listed("a an in before after with at of from as and or is are was were do does occur")
_NO_NOUN_OF_WORDS = listed("mean used stand")


def _mentioned(question: Question) -> tuple[str, ...]:
    """Return articles without a noun, and auxiliary verbs without a subject: "an before h", "how is does used"."""
    tokens = ("", *question.plain, "")
    found = []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        is_article = token in _ARTICLES and (
            not after or after in _NO_NOUN or (question.wording and after in _NO_NOUN_OF_WORDS)
        )
        is_verb = token in _VERBS and ((before in _VERBS and after == "used") or (not after and question.wording))
        if is_article or is_verb:
            found.append(token)
    return tuple(found)


# The past of one verb, which is a verb of its own too: who founds a company has not found it.
_OTHER_VERBS = listed("found fell lay saw wound ground felt bit rose spoke bore bound stole")
# Things that are named after what is done: a park is no parking.
_THINGS = listed(
    "parking lighting bedding housing dressing bearing filling filing siding lining stuffing flooring booking"
)


def form(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Boring is not bored; and who owned it is not who owns it."""
    for pair in pairing.pairs:
        if pair.how == FORM:
            x, y = a.words[pair.left], b.words[pair.right]
            forms = {inflection(x.text), inflection(y.text)}
            if forms == {"ing", "past"} or (x.past != y.past and "past" in forms and a.tense != b.tense):
                return x.text, y.text
            if _is_other_verb(x) or _is_other_verb(y) or _is_thing(x, y) or _is_thing(y, x):
                return x.text, y.text
    return None


def _is_other_verb(word: Word) -> bool:
    return word.text in _OTHER_VERBS and not (word.past or word.passive or "have" in word.lead)


def _is_thing(word: Word, other: Word) -> bool:
    if word.text not in _THINGS:
        return False
    return other.article in {"a", "an"} or bool(number_differs(other.text, word.text.removesuffix("ing")))


def bare_question(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find how, what, or neither, asked of the same words; of other words they may ask for the same."""
    kinds = {a.kind, b.kind}
    if kinds == {"how", "what"}:
        return (a.kind, b.kind) if pairing.rest == ((), ()) else None
    is_reworded = pairing.rest[0] and pairing.rest[1]
    return (a.kind, b.kind) if kinds in ({"how", "if"}, {"if", "what"}) and not is_reworded else None


def object_pronoun(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find "me" as an object in one text only: "block someone", "someone blocked me"."""
    if ("1o" in a.persons) == ("1o" in b.persons) or not (a.persons and b.persons):
        return None
    few = len(pairing.rest[0]) + len(pairing.rest[1]) <= 1
    return (("me", "") if "1o" in a.persons else ("", "me")) if few else None


_SENTENCES = re.compile(r"\w\w[.?!]\s")
_LONG, _ALMOST = 20, 2  # content words of a long text, and of those at most that another one has not


def in_long(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a word that replaces another in a long text of several sentences, of which a network hardly sees it."""
    is_long = min(len(a.words), len(b.words)) >= _LONG and all(_SENTENCES.search(side.marks.text) for side in (a, b))
    if not is_long or max(map(len, pairing.rest)) > _ALMOST:
        return None
    return _first((x.text, y.text) for x, y in pairing.replaced)


_DESCRIBING, _LISTING = listed("describe explain outline summarize"), listed("name list enumerate")


def task(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Two commands whose verbs differ, or one to list and one to describe the same."""
    firsts = (*a.plain[:1], *b.plain[:1])
    if any(x in _DESCRIBING and y in _LISTING for x, y in (firsts, firsts[::-1])):
        return a.plain[0], b.plain[0]
    if not (a.kind == b.kind == COMMAND):
        return None
    verbs = a.words[0], b.words[0]
    left, right = pairing.rest
    return (verbs[0].text, verbs[1].text) if verbs[0] in left and verbs[1] in right else None


def direction(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a word after opposite prepositions: "from Rome", "to Rome"."""
    found = order.direction_differs(a.words, b.words, pairing.pairs)
    return None if found is None else tuple(f"{word.place} {word.text}" for word in found)  # type: ignore[return-value]


def preposition(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find another preposition where all other words are the same."""
    if pairing.rest != ((), ()) or KEYWORDS in {a.shape, b.shape}:
        return None
    found = order.preposition_differs(a.words, b.words, pairing.pairs)
    return None if found is None else tuple(" ".join((*word.lead, word.text)) for word in found)  # type: ignore[return-value]


def word_order(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find two words in another order that means something else."""
    loose = (KEYWORDS in {a.shape, b.shape} and a.shape != b.shape) or _is_reworded(a, b, pairing)
    preambles = (a.preamble, b.preamble)
    found = order.turned(a.words, b.words, pairing.pairs, loose=loose, preambles=preambles)
    return None if found is None else _both(a, found)


_REWORDED = 3  # one of so many words of both sides has no pair: order means less then
_QUESTION_REWORDED = 5


def _is_reworded(a: Question, b: Question, pairing: Pairing) -> bool:
    """Whether many words of both sides are others."""
    left, right = pairing.rest
    share = _QUESTION_REWORDED if a.kinds and b.kinds else _REWORDED
    return share * len(left) >= len(a.words) and share * len(right) >= len(b.words)


def roles(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a verb in another voice whose subject has not moved."""
    found = order.role_differs(a.words, b.words, pairing.pairs)
    return None if found is None else _both(a, found)


def _both(a: Question, places: tuple[int, int]) -> Said:
    """Return two words, which both texts have."""
    said = ", ".join(a.words[place].text for place in places)
    return said, said


# Soft.


def replaced(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Find words that stand in each other's place."""
    return _first((x.text, y.text) for x, y in pairing.replaced)


def one_sided(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Find a word that the other text lacks."""
    return (pairing.left[0].text, "") if pairing.left else ("", pairing.right[0].text) if pairing.right else None


def several_senses(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find synonyms that have other meanings too."""
    return _paired(a, b, pairing, SENSE)


def typo(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a word that is no common one, and a letter away from one."""
    return _paired(a, b, pairing, TYPO)


def abbreviation(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a word that is short for others."""
    return _paired(a, b, pairing, SHORT)


def word_form(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find other forms of a word."""
    return _paired(a, b, pairing, FORM)


def _paired(a: Question, b: Question, pairing: Pairing, how: str) -> Said | None:
    return _first((a.words[pair.left].text, b.words[pair.right].text) for pair in pairing.pairs if pair.how == how)


def grammar_words(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a word after other grammar words."""
    pairs = ((a.words[pair.left], b.words[pair.right]) for pair in pairing.pairs)
    return _first((" ".join(x.lead), " ".join(y.lead)) for x, y in pairs if order.leads_differ(x, y))


def article(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a word with another article or number."""
    pairs = (
        (a.words[pair.left], b.words[pair.right]) for pair in pairing.pairs if pair.how in {"equal", NUMBER_DIFFERS}
    )
    return _first((_with_article(x), _with_article(y)) for x, y in pairs if order.articles_differ(x, y))


def _with_article(word: Word) -> str:
    return f"{word.article} {word.text}".strip()


def ending(a: Question, b: Question, _pairing: Pairing) -> Said | None:
    """Compare the grammar words at the end."""
    return None if a.trailing == b.trailing else (" ".join(a.trailing), " ".join(b.trailing))


def frame(a: Question, b: Question, _pairing: Pairing) -> Said | None:
    """Find question words that may ask for the same."""
    return None if a.kind == b.kind or questions.kinds_differ(a.kind, b.kind) is None else (kind_of(a), kind_of(b))


def loose_modality(a: Question, b: Question, _pairing: Pairing) -> Said | None:
    """Find modal verbs that may mean the same."""
    differs = questions.modals_differ(a.modals, b.modals)
    return None if differs is None else (" ".join(sorted(a.modals)), " ".join(sorted(b.modals)))


def anybody(a: Question, b: Question, _pairing: Pairing) -> Said | None:
    """Find "you" for "I"."""
    return None if questions.persons_differ(a.persons, b.persons, of_business=False) is None else NOTHING


def tense_unclear(a: Question, b: Question, _pairing: Pairing) -> Said | None:
    """Find a tense that only one text shows."""
    return None if a.tense == b.tense or {a.tense, b.tense} == {"present", ""} else (a.tense, b.tense)


def capital(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a word that only one text writes as a name."""
    return _first(_capitals(a, b, pairing))


def _capitals(a: Question, b: Question, pairing: Pairing) -> Iterator[Said]:
    pairs = ((a.words[pair.left], b.words[pair.right]) for pair in pairing.pairs if pair.how == "equal")
    return ((x.text, y.text) for x, y in pairs if x.named != y.named and (x.plain or y.plain))


def voice(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Find a verb that is passive in one text only."""
    pairs = ((a.words[pair.left], b.words[pair.right]) for pair in pairing.pairs)
    return _first((x.text, y.text) for x, y in pairs if x.passive != y.passive)


def loose_quantifier(a: Question, b: Question, _pairing: Pairing) -> Said | None:
    """Find "all", "and" or the like in one text only."""
    left, right = Counter(a.quantifiers), Counter(b.quantifiers)
    return None if left == right else only(a.quantifiers, b.quantifiers)


def moved(_a: Question, _b: Question, pairing: Pairing) -> Said | None:
    """Find words in another order."""
    rights = [pair.right for pair in pairing.pairs]
    return None if rights == sorted(rights) else NOTHING


def _first(found: Iterable[Said]) -> Said | None:
    return next(iter(found), None)
