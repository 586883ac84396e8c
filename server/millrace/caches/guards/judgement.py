"""What all rules say of two questions."""

from msgspec import Struct

from millrace.caches.guards.pairing import Pairing, pair
from millrace.caches.guards.question import Question
from millrace.caches.guards.rule import Kind, Rule
from millrace.caches.guards.said import Said
from millrace.caches.guards.text_rules import TEXT_RULES
from millrace.caches.guards.word_rules import WORD_RULES
from millrace.caches.guards.words import listed, spelled


class Objection(Struct, frozen=True):
    """What a rule says against serving the answer of one question for another."""

    rule: str  # a name of `rules.RULES`
    reason: str  # for users, with the words of both sides: "opposites: hot / cold"
    said: Said = ("", "")  # these words, those of the left text first


class Judgement(Struct, frozen=True):
    """All that rules have to say of two questions."""

    hard: tuple[Objection, ...]  # never overruled
    soft: tuple[Objection, ...]  # evidence for the decision; complete only if there is no hard one or `fully` was asked
    pairing: Pairing  # the words that they share; empty if a hard objection came before it

    @property
    def objections(self) -> tuple[Objection, ...]:
        """All of them, the hard ones first."""
        return self.hard + self.soft


# Of these words one text may have more than the other, and still ask the same if no rule objects.
_FRAMES = listed(
    "do does can how what which is are am the a an i you to of way ways method best please tell me us know just"
)


def agree(a: Question, b: Question, judgement: Judgement) -> bool:
    """Whether two texts have the same words in the same order, but for the words of frames, and nothing objects."""
    left, right = ([spelled(word) for word in each.plain if word not in _FRAMES] for each in (a, b))
    return not judgement.objections and bool(left) and left == right and a.clauses == b.clauses


def judge(a: Question, b: Question, *, fully: bool = False) -> Judgement:
    """Return the objections to serving the answer of `a` for `b`, or of `b` for `a`: the order makes no difference.

    Without `fully`, the first hard objection ends it.
    """
    hard: list[Objection] = []
    for rule in TEXT_RULES:
        said = rule.check(a, b)
        if said is not None:
            hard.append(_objection(rule, said))
            if not fully:
                return Judgement(tuple(hard), (), Pairing())
    if a.verbatim is not None or b.verbatim is not None:
        return Judgement(tuple(hard), (), Pairing())
    pairing = pair(a.words, b.words)
    soft: list[Objection] = []
    for each in WORD_RULES:
        said = each.check(a, b, pairing)
        if said is None:
            continue
        if each.kind is Kind.SOFT:
            soft.append(_objection(each, said))
            continue
        hard.append(_objection(each, said))
        if not fully:
            break
    return Judgement(tuple(hard), tuple(soft), pairing)


def _objection(rule: Rule, said: Said) -> Objection:
    shown = " / ".join(words or "nothing" for words in said) if any(said) else ""
    return Objection(rule.name, f"{rule.reason}: {shown}" if shown else rule.reason, said)
