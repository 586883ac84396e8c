"""A text as the guards compare it. `Question.read` is a pure function, so its result may be cached or built again."""

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
    kinds: tuple[str, ...]  # question words in order: how, why, what, if (yes or no) ...
    modals: frozenset[str]
    tense: str  # past, present or empty
    persons: tuple[str, ...]  # who speaks of whom: 1 for I and me, 2 for you; empty unless both occur
    owner: str  # my, your or empty
    negations: tuple[Negation, ...]
    clauses: bool  # several clauses, or a word like `every`: `not every` is not `every ... not`
    numbers: tuple[str, ...]
    trailing: tuple[str, ...]  # function words at the end: "where are you from"
    quoted: tuple[str, ...]  # quotations, code spans, text after a colon: must be equal
    verbatim: tuple[str, ...] | None  # all tokens of code, or of a language other than English; else None
    wording: bool  # it asks about words, so synonyms do not count

    @property
    def kind(self) -> str:
        """The first question word. Later ones may be relative pronouns."""
        return self.kinds[0] if self.kinds else ""

    @classmethod
    def read(cls, text: str) -> "Question":
        """Parse a text."""
        plain = words.tokens(text)
        tokens = questions.read(synonyms.one_word(" ".join(numbers.canonical(plain)))).split()
        while tokens and tokens[-1] in _STOPS:
            tokens.pop()
        content, negations, trailing = _content(tokens)
        if words.case_tells(text) and text != text.lower():
            content = _marked_plain(content, plain)
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
_CONJUNCTIONS = {"and": "and", "or": "or", "vs": "vs", "versus": "vs"}
# Questions about words: with a synonym in its place they ask something else.
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
_FEW = 2  # words: so many foreign ones decide; a text of no more does not show its language


def _content(tokens: list[str]) -> tuple[tuple[Word, ...], tuple[Negation, ...], tuple[str, ...]]:
    """Return the content words, the negations, and the function words after the last content word."""
    content: list[Word] = []
    negations: list[Negation] = []
    lead: list[str] = []
    article = joint = place = ""
    for at, token in enumerate(tokens):
        if _is_content(token):
            content.append(_word(token, tuple(lead), article, place, joint))
            lead, article, joint = [], "", ""
            continue
        if polarity.negated(token):
            negations.append(Negation(len(content), finite="to" not in tokens[max(at - 1, 0) : at + 2]))
        article = _ARTICLES.get(token, article)
        joint = _CONJUNCTIONS.get(token, joint)
        lead += _leading(token, tokens[at - 1] if at else "")
        place = PREPOSITIONS.get(token, "") if token not in _ARTICLES else place
    return _joined(content), tuple(negations), tuple(lead)


_ARTICLES = {"a": "a", "an": "a", "the": "the"}
# One form per auxiliary verb and tense, so that `do cats` is `does a cat`.
_FORMS = {"is": "is", "are": "is", "am": "is", "was": "was", "were": "was", "does": "do", "has": "have", "could": "can"}
_DO = frozenset({"do", "does", "did"})
_NO_LEAD = frozenset({"a", "an", "the", ",", ".", "and", "or", "vs", "versus", "not"})


def _leading(token: str, before: str) -> list[str]:
    """Return what a function word adds to the lead of the next content word.

    `do` adds nothing after `why` and `how`, because `I wonder why cats purr` has none. After `what` and `who` it does,
    because it separates who eats from who is eaten.
    """
    if token in _NO_LEAD or token in words.IDLE or (token.startswith("?") and not before):
        return []
    if before.startswith("?") and before not in {"?what", "?who", "?if"} and token in _DO:
        return []
    return [PREPOSITIONS.get(token) or _FORMS.get(token, token)]


def _joined(content: list[Word]) -> tuple[Word, ...]:
    """Return the words with `between x and y` as `between x and between y`, and `the x of` as `x of`."""
    found: list[Word] = []
    for at, word in enumerate(content):
        following = content[at + 1] if at + 1 < len(content) else None
        sole = word.text.endswith("est") or (following is not None and following.lead[:1] == ("of",))
        lead = found[-1].lead if word.joint and found and not word.lead else word.lead
        found.append(replace(word, lead=lead, article="" if sole and word.article == "the" else word.article))
    return tuple(found)


def _marked_plain(content: tuple[Word, ...], plain: list[str]) -> tuple[Word, ...]:
    """Mark words as `plain` that would be capitalized if they were names. The first word of a sentence always is."""
    inside = {token for before, token in pairwise(plain) if before != "."}
    return tuple(replace(word, plain=not word.named and word.text in inside) for word in content)


def _is_content(token: str) -> bool:
    if token.startswith((NAME, NUMBER)) or words.is_symbol(token):
        return True
    if token.startswith("?") or token == POSSESSIVE or token in words.FUNCTION or token in words.IDLE:
        return False
    return (
        token not in PREPOSITIONS
        and token not in _CONJUNCTIONS
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
    """Whether a text asks how something is said."""
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
    plain = [token for token in tokens if token.isalpha()]
    if sum(token in _FOREIGN for token in plain) >= _FEW:
        return True
    return len(plain) > _FEW and not any(token in _ENGLISH or synonyms.is_common(token) for token in plain)
