"""What each rule looks for that needs no pairing of words. A check returns what it objects to, or None."""

import re
from collections import Counter
from itertools import pairwise

from millrace.caches.guards import marks, numbers, polarity, questions
from millrace.caches.guards.question import Question, verbatim_differs
from millrace.caches.guards.said import NOTHING, Said, only, turned
from millrace.caches.guards.words import NUMBER, listed


def language(a: Question, b: Question) -> Said | None:
    """Compare the wording of texts in languages that the rules do not know."""
    foreign = (a.verbatim is not None and not a.is_code) or (b.verbatim is not None and not b.is_code)
    return NOTHING if foreign and verbatim_differs(a, b) else None


def code(a: Question, b: Question) -> Said | None:
    """Compare code, token by token and with its indentation."""
    return NOTHING if (a.is_code or b.is_code) and verbatim_differs(a, b) else None


def nothing_to_compare(a: Question, b: Question) -> Said | None:
    """Refuse texts without a content word, unless they are equal."""
    return None if (a.words and b.words) or a.plain == b.plain else NOTHING


def signs(a: Question, b: Question) -> Said | None:
    """Compare all that is neither letter nor digit nor blank, but for harmless marks."""
    left, right = a.marks.signs, b.marks.signs
    if left != right:
        return only(left, right)
    if not (_is_sum(a) and _is_sum(b)):
        return None
    commas = [_PAUSE.findall(side.marks.text) for side in (a, b)]
    return None if commas[0] == commas[1] else only(*commas)


_OPERATORS = listed("plus minus times divided multiplied squared")
_PAUSE = re.compile(r",(?!\d)")  # as brackets: half of two, plus two


def _is_sum(question: Question) -> bool:
    return any(before.startswith(NUMBER) and token in _OPERATORS for before, token in pairwise(question.plain))


def indentation(a: Question, b: Question) -> Said | None:
    """Compare the blanks before lines; and where the lines end, if lines are what both ask about."""
    lines = [side.marks.lines for side in (a, b)]
    return NOTHING if a.marks.indents != b.marks.indents or (all(lines) and lines[0] != lines[1]) else None


def letter_case(a: Question, b: Question) -> Said | None:
    """Compare the letter case of identifiers, options and units."""
    return marks.case_differs(a.marks, b.marks)


def identifier(a: Question, b: Question) -> Said | None:
    """Compare paths, addresses and dotted names."""
    return marks.identifiers_differ(a.marks, b.marks)


def quoted(a: Question, b: Question) -> Said | None:
    """Compare quotations, and the text that is pasted behind a colon."""
    return marks.quotes_differ(a.marks, b.marks)


def number(a: Question, b: Question) -> Said | None:
    """Compare the numbers, whatever their order, which is `word_order`'s."""
    return numbers.differ(a.numbers, b.numbers)


def unit(a: Question, b: Question) -> Said | None:
    """Compare the units behind numbers."""
    return only(a.units, b.units) if a.units and b.units and sorted(a.units) != sorted(b.units) else None


def negation(a: Question, b: Question) -> Said | None:
    """Compare the negations: how many, of what, and where."""
    return NOTHING if polarity.differ(a.negations, b.negations, clauses=a.clauses or b.clauses) else None


def question_class(a: Question, b: Question) -> Said | None:
    """Compare the question words."""
    if questions.kinds_differ(a.kind, b.kind):
        return kind_of(a), kind_of(b)
    left, right = _later(a), _later(b)
    return (" ".join(left), " ".join(right)) if left and right and left != right else None


_LATER = frozenset({"how", "why", "when", "where", "many", "long"})  # a later "what" or "who" may be relative


def _later(question: Question) -> list[str]:
    return sorted(kind for kind in question.kinds[1:] if kind in _LATER)


def kind_of(question: Question) -> str:
    """Return the class of a question, as users read it."""
    return question.kind.rstrip("~")


def modality(a: Question, b: Question) -> Said | None:
    """Compare the modal verbs."""
    if not questions.modals_differ(a.modals, b.modals):
        return None
    return " ".join(sorted(a.modals)), " ".join(sorted(b.modals))


def person(a: Question, b: Question) -> Said | None:
    """Compare who is asked about."""
    if questions.taught(a.plain) * questions.taught(b.plain) < 0:
        return NOTHING
    of_business = any(not questions.BUSINESS.isdisjoint(word.lemmas) for word in a.words)
    return NOTHING if questions.persons_differ(a.persons, b.persons, of_business=of_business) else None


def tense(a: Question, b: Question) -> Said | None:
    """Compare the tenses."""
    if "past" in {a.tense, b.tense} and a.tense != b.tense:
        return (a.tense, b.tense) if a.tense and b.tense else None
    return None


def be_or_have(a: Question, b: Question) -> Said | None:
    """Tell "is" from "has", as the only verb. How many there are in it is how many it has."""
    if a.kind == b.kind in {"many", "much"}:
        return None
    return (
        ("be", "have")
        if a.verbs == {"be"} and b.verbs == {"have"}
        else (("have", "be") if a.verbs == {"have"} and b.verbs == {"be"} else None)
    )


_SCALE = listed("all every each some any only both many much most few several half either neither no")
_MILD = frozenset({"some", "any"})  # asked for or left out, they make little difference
_WHOLE = listed("everyone everybody everything everywhere")
_PART = listed("someone somebody something somewhere anyone anybody anything anywhere")
_TIMES = listed("once twice thrice")
_FEW = frozenset({"few", "little"})


def quantifier(a: Question, b: Question) -> Said | None:
    """Compare "all", "some", "few", "everyone", "twice" and the like."""
    found = _whole_or_part(a, b) or turned(_whole_or_part(b, a)) or _times(a, b) or _few_or_a_few(a, b) or _bounds(a, b)
    if found is not None:
        return found
    left, right = ([word for word in side.quantifiers if word in _SCALE] for side in (a, b))
    if set(left) | set(right) <= _MILD:
        return None
    return (
        only(left, right)
        if left and right and Counter(left) != Counter(right)
        else (("only", "") if "only" in left and not right else ("", "only") if "only" in right and not left else None)
    )


def _whole_or_part(a: Question, b: Question) -> Said | None:
    whole, part = _WHOLE.intersection(a.plain), _PART.intersection(b.plain)
    return (min(whole), min(part)) if whole and part and _WHOLE.isdisjoint(b.plain) else None


def _times(a: Question, b: Question) -> Said | None:
    left, right = ([word for word in side.plain if word in _TIMES] for side in (a, b))
    is_counted = set(left) - {"once"} and set(right) - {"once"}  # "once" alone may be "when"
    return only(left, right) if is_counted and Counter(left) != Counter(right) else None


def _few_or_a_few(a: Question, b: Question) -> Said | None:
    left, right = _few(a), _few(b)
    return NOTHING if left != right and {word for _, word in left} == {word for _, word in right} else None


def _few(question: Question) -> set[tuple[bool, str]]:
    """Return what few or little stand before, each with whether "a" is before them: few people, or a few people."""
    plain = ("", *question.plain, "")
    return {(plain[at - 1] == "a", plain[at + 1]) for at in range(1, len(plain)) if plain[at] in _FEW}


# What bounds a number, as `synonyms` and `polarity` leave it; "of" and the like may stand between.
_BOUNDS = {
    "exactly": "exactly",
    "precisely": "exactly",
    "minimum": "minimum",
    "maximum": "maximum",
    "up": "maximum",
    "over": "over",
    "under": "under",
} | dict.fromkeys(("about", "around", "roughly", "approximately"), "about")
_NOT_BOUNDS = {"over": "maximum", "under": "minimum"}  # no more than, not less than
_BOUNDING = listed("of to than the a")
_OR_BOUNDS = dict.fromkeys(("more", "over", "above"), "minimum") | dict.fromkeys(("less", "fewer", "under"), "maximum")


def _bounds(a: Question, b: Question) -> Said | None:
    """Tell exactly, at least, at most, more than and less than before a number, where both texts bound one."""
    left, right = _bounded(a.plain), _bounded(b.plain)
    return only(left, right) if left and right and sorted(left) != sorted(right) else None


def _bounded(plain: tuple[str, ...]) -> list[str]:
    found = []
    for at, token in enumerate(plain):
        if not token.startswith(NUMBER):
            continue
        before = [word for word in plain[:at] if word not in _BOUNDING][-2:]
        bound = before[-1] if before else ""
        negated = len(before) > 1 and before[0] in {"no", "not"}
        found.append((_NOT_BOUNDS if negated and bound in _NOT_BOUNDS else _BOUNDS).get(bound, ""))
        if plain[at + 1 : at + 2] == ("or",):
            found.append(_OR_BOUNDS.get(" ".join(plain[at + 2 : at + 3]), ""))
    return [bound for bound in found if bound]


def conjunction(a: Question, b: Question) -> Said | None:
    """Tell "and" from "or"."""
    left, right = ({"and", "or"} & set(side.quantifiers) for side in (a, b))
    return (" ".join(left), " ".join(right)) if left and right and left != right else None
