"""A text, read once for all guards. Keep it beside a stored entry, or build it again: it is a pure function of text."""

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from millrace.caches.guards import numbers, polarity, questions, synonyms, words
from millrace.caches.guards.order import PREPOSITIONS
from millrace.caches.guards.polarity import Negation
from millrace.caches.guards.questions import DOING, MAKES
from millrace.caches.guards.words import NAME, NUMBER, POSSESSIVE, Word, listed


@dataclass(frozen=True, slots=True)
class Question:
    """What the guards compare."""

    words: tuple[Word, ...]  # in order
    kinds: tuple[str, ...]  # how, why, what, if ...
    modals: frozenset[str]
    tense: str
    persons: tuple[str, ...]
    owner: str
    negations: tuple[Negation, ...]
    clauses: bool  # more than one, or a word like `every`: `not every` is not `every ... not`
    numbers: tuple[str, ...]
    trailing: tuple[str, ...]  # words of grammar at the very end: "where are you from"
    quoted: tuple[str, ...]  # quotations, code spans, what follows a colon: to be equal letter by letter
    verbatim: tuple[str, ...] | None  # every token, where it is code or another language than English
    wording: bool  # it asks about words, so no word may stand for another

    @property
    def kind(self) -> str:
        """What is asked for first; a later word may be relative."""
        return self.kinds[0] if self.kinds else ""

    @classmethod
    def read(cls, text: str) -> "Question":
        """Read a text."""
        plain = words.tokens(text)
        tokens = questions.read(synonyms.one_word(" ".join(numbers.canonical(plain)))).split()
        while tokens and tokens[-1] in _STOPS:
            tokens.pop()
        content, negations, trailing = _content(tokens)
        if words.case_tells(text) and text != text.lower():
            content = _told_by_case(content, plain)
        return cls(
            words=content,
            kinds=questions.kinds(tokens),
            modals=questions.modals(tokens),
            tense=questions.tense(tokens),
            persons=questions.persons(tokens),
            owner=questions.owners(tokens),
            negations=negations,
            clauses=bool((_CLAUSES | _SCOPES) & set(tokens[1:])),
            numbers=tuple(token for token in tokens if token.startswith(NUMBER)),
            trailing=trailing,
            quoted=_quoted(text),
            verbatim=_verbatim(text, plain),
            wording=any(_WORDING & word.lemmas for word in content) or _quotes_words(plain),
        )


_CLAUSES = frozenset({"and", "or", "vs", "but", "while", "if", "because", "when", "that", "?who", "?what", ",", "."})
_SCOPES = listed(
    "all every each both many most much only even always also still some any few several everyone everything"
)
_SPLICES = {"and": "and", "or": "or", "vs": "vs", "versus": "vs"}
# Questions about words: to put another word in is to ask something else.
_WORDING = listed(
    "translate translation spell spelling pronounce pronunciation rhyme synonym antonym conjugate plural grammar "
    "sentence rephrase paraphrase proofread meaning mean define definition word phrase etymology abbreviation "
    "acronym stand letter syllable verb noun adjective"
)
_QUOTATION = re.compile(
    r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)|:\s+(\S+\s+\S.*)", re.DOTALL
)
_CODE = re.compile(
    r"[{};\\]|==|!=|[-=]>|::|</|\(\)\s*[.:]|^\s*(?:def|class|import|from|SELECT|#include)\b.*\n", re.MULTILINE
)
_FOREIGN_SHARE = 0.15  # of letters outside ASCII
_FOREIGN = listed(
    "der das und ist nicht wie ich mein meine ein eine kann wo warum el la los las que como para por una mi es "
    "puedo le les des est une du je mon ma pour comment het een niet voor mijn och att det jag il per che di della "
    "posso meu minha em um uma och ve bir jak czy nie na w z og hvordan"
)
_ENGLISH = words.FUNCTION | polarity.NEGATIONS | set(PREPOSITIONS) | {"how", "why", "when", "where"}
_STOPS = frozenset({".", ","})
_TWO = 2


def _content(tokens: list[str]) -> tuple[tuple[Word, ...], tuple[Negation, ...], tuple[str, ...]]:
    """Return the content words, where negations stand, and the words of grammar after the last of them."""
    content: list[Word] = []
    negations: list[Negation] = []
    lead: list[str] = []
    article = joint = place = ""
    for at, token in enumerate(tokens):
        if _carries(token):
            content.append(_word(token, tuple(lead), article, place, joint))
            lead, article, joint = [], "", ""
            continue
        if polarity.negated(token):
            negations.append(Negation(len(content), finite="to" not in tokens[max(at - 1, 0) : at + 2]))
        article = _ARTICLES.get(token, article)
        joint = _SPLICES.get(token, joint)
        lead += _leading(token, tokens[at - 1] if at else "")
        place = PREPOSITIONS.get(token, "") if token not in _ARTICLES else place
    return _joined(content), tuple(negations), tuple(lead)


_ARTICLES = {"a": "a", "an": "a", "the": "the"}
# One form for each verb of grammar and tense, so that `do cats` is `does a cat`.
_FORMS = {"is": "is", "are": "is", "am": "is", "was": "was", "were": "was", "does": "do", "has": "have", "could": "can"}
_DO = frozenset({"do", "does", "did"})
_UNTOLD = frozenset({"a", "an", "the", ",", ".", "and", "or", "vs", "versus", "not"})


def _leading(token: str, before: str) -> list[str]:
    """Return what a word of grammar adds to the lead of the next word.

    Not `do` after why and how, where `I wonder why cats purr` has none; after what it tells who eats from who is eaten.
    """
    if token in _UNTOLD or token in words.IDLE or (token.startswith("?") and not before):
        return []
    if before.startswith("?") and before not in {"?what", "?who", "?if"} and token in _DO:
        return []
    return [PREPOSITIONS.get(token) or _FORMS.get(token, token)]


def _joined(content: list[Word]) -> tuple[Word, ...]:
    """Return the words, `between x and y` put as `between x and between y`, and `the x of` as `x of`."""
    found: list[Word] = []
    for at, word in enumerate(content):
        following = content[at + 1] if at + 1 < len(content) else None
        sole = word.text.endswith("est") or (following is not None and following.lead[:1] == ("of",))
        lead = found[-1].lead if word.joint and found and not word.lead else word.lead
        found.append(replace(word, lead=lead, article="" if sole and word.article == "the" else word.article))
    return tuple(found)


def _told_by_case(content: tuple[Word, ...], plain: list[str]) -> tuple[Word, ...]:
    """Mark the words that would bear a capital were they names; the first of a sentence bears one anyhow."""
    inside = {token for before, token in pairwise(plain) if before != "."}
    return tuple(replace(word, plain=not word.named and word.text in inside) for word in content)


def _carries(token: str) -> bool:
    if token.startswith((NAME, NUMBER)) or words.is_symbol(token):
        return True
    if token.startswith("?") or token == POSSESSIVE or token in words.FUNCTION or token in words.IDLE:
        return False
    return (
        token not in PREPOSITIONS
        and token not in _SPLICES
        and token not in {DOING, MAKES}
        and not polarity.negated(token)
    )


def _word(token: str, lead: tuple[str, ...], article: str, place: str, joint: str) -> Word:
    named = token.startswith(NAME)
    text = token.removeprefix(NAME)
    meanings = frozenset[int]() if named else synonyms.meanings(text)
    return Word(text, named, False, lead, article, place, joint, words.lemmas(text), meanings)  # noqa: FBT003 - see plain


def _quoted(text: str) -> tuple[str, ...]:
    found = ("".join(groups) for groups in _QUOTATION.findall(text))
    return tuple(" ".join(part.casefold().split()).rstrip(".?! ") for part in found)


def _quotes_words(tokens: list[str]) -> bool:
    """Whether it asks how something is said."""
    return "say" in tokens and "how" in tokens


def _verbatim(text: str, tokens: list[str]) -> tuple[str, ...] | None:
    if _CODE.search(text):
        return tuple(text.split())
    letters = [letter for letter in text if letter.isalpha()]
    outside = sum(not letter.isascii() for letter in letters)
    if outside > _FOREIGN_SHARE * len(letters) or _is_foreign(tokens):
        return tuple(token.removeprefix(NAME) for token in tokens if token not in {",", "."})
    return None


def _is_foreign(tokens: list[str]) -> bool:
    spoken = [token for token in tokens if token.isalpha()]
    if sum(token in _FOREIGN for token in spoken) >= _TWO:
        return True
    return len(spoken) > _TWO and not any(token in _ENGLISH or synonyms.is_common(token) for token in spoken)
