"""What rules look for in a verb together with what follows it: its particle, its object, what it causes."""

from itertools import pairwise

from millrace.caches.guards import questions
from millrace.caches.guards.pairing import Pairing
from millrace.caches.guards.question import Question
from millrace.caches.guards.said import Said, turned
from millrace.caches.guards.words import listed

# Verbs that mean something else with each of these after them, if nothing else differs.
_LIGHT = listed(
    "put get take pick give make hold hang bring break look turn run come call pass cut blow lay throw "
    "carry keep let stand knock hand"
)
_AFTER_VERBS = listed("up down off out away over back on in")


def particle(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Tell "put on" from "put up" and "pick up" from "pick", where all other words are the same."""
    if any(word.text not in _AFTER_VERBS for rest in pairing.rest for word in rest):
        return None
    left, right = _particles(a.plain), _particles(b.plain)
    for verb, after in left.items():
        if right.get(verb, after) != after and after not in b.plain and right[verb] not in a.plain:
            return f"{verb} {after}".strip(), f"{verb} {right[verb]}".strip()
    return None


def _particles(tokens: tuple[str, ...]) -> dict[str, str]:
    """Return what follows each such verb; an empty string for no particle."""
    following = zip(tokens, (*tokens[1:], ""), strict=True)
    return {verb: after if after in _AFTER_VERBS else "" for verb, after in following if verb in _LIGHT}


# Objects of which a verb says something that its synonyms do not.
_IDIOMS = {
    verb: listed(objects)
    for verb, objects in {
        "pick": "lock nose pocket fight guitar side",
        "change": "tire tyre wheel bulb diaper nappy baby lane train gear oil clothes bed sheet battery mind money",
        "draw": "gun sword weapon blood bath conclusion curtain card salary attention line winner lot ticket raffle",
        "make": "bed friend sense way decision call mistake love war",
        "return": "function value array list string object none null",
        "raise": "child kid son daughter baby family money fund question chicken cattle exception error",
        "run": "marathon race bath script fever business query test program",
        "break": "law news promise bone leg arm record habit horse fast",
        "kill": "process job task thread time",
        "catch": "cold flu train bus exception error",
        "serve": "paper subpoena sentence time",
        "reduce": "fraction sauce",
        "treat": "cow friend guest employee",
        "keep": "secret promise bee diary",
        "strike": "deal balance bargain match",
        "start": "fire fight engine car button menu screen key",
        "fix": "date price rate",
        "spend": "time night day weekend",
        "drop": "table course class call bomb hint",
        "throw": "party tantrum exception error",
        # Names of things, whose first word no synonym stands for.
        "big": "endian bang data dipper",
        "little": "endian",
        "hard": "drive disk disc copy cash currency drug link fork water hat shoulder candy",
        "fast": "food forward break",
        "quick": "sort bread",
        "short": "circuit sale term stop",
        "smart": "contract phone card tv home watch meter",
        "simple": "interest machine present past",
        "right": "triangle wing",
        "common": "law noun sense cold denominator stock",
        "rich": "text",
        "happy": "hour",
        "sick": "leave day pay",
        "light": "year",
        "answer": "key",
        "end": "user zone",
        "price": "tag",
    }.items()
}
# Verbs of which one does say the same as the other with all such objects.
_EITHER = {"raise": "throw", "throw": "raise"}
# Verbs that do say the same with some of these objects.
_OF_IDIOMS = listed("replace swap switch handle terminate stop end rear execute perform conduct collect gather")


def idiom(a: Question, b: Question, _pairing: Pairing) -> Said | None:
    """Tell "pick a lock" from "choose a lock": the same object, and another verb on one side."""
    return _idiom(a, b) or turned(_idiom(b, a))


def _idiom(one: Question, other: Question) -> Said | None:
    theirs = {lemma for word in other.words for lemma in word.lemmas}
    if not _OF_IDIOMS.isdisjoint(theirs):
        return None
    for verb, thing in (*pairwise(one.words), *zip(one.words, one.words[2:], strict=False)):  # "a light bulb"
        is_idiom = any(thing.lemmas & _IDIOMS.get(lemma, frozenset()) for lemma in verb.lemmas)
        either = {_EITHER[lemma] for lemma in verb.lemmas if lemma in _EITHER}
        if is_idiom and theirs.isdisjoint(verb.lemmas | either) and not theirs.isdisjoint(thing.lemmas):
            return verb.text, ""
    return None


_CAUSING = frozenset({"cause", "make"})


def causing(a: Question, b: Question, pairing: Pairing) -> Said | None:
    """Tell "what causes it" from "why does it cause", of which the verb is a word of its own."""
    for one, rest, is_turned in ((a, pairing.rest[1], False), (b, pairing.rest[0], True)):
        verb = next((word.text for word in rest if not _CAUSING.isdisjoint(word.lemmas)), None)
        if verb is not None and any(questions.MAKES in word.lead for word in one.words):
            return (verb, "") if is_turned else ("", verb)
    return None
