"""A text as the guards compare it. `Question.read` is a pure function, so its result may be cached or built again."""

import re
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from millrace.caches.guards import marks, numbers, polarity, questions, synonyms, vocabulary, words
from millrace.caches.guards.marks import Marks
from millrace.caches.guards.order import CLAUSES, PREPOSITIONS
from millrace.caches.guards.polarity import Negation
from millrace.caches.guards.questions import ABLE, ALLOWED, DOING, MAKES
from millrace.caches.guards.words import CLAUSAL, NAME, NUMBER, POSSESSIVE, Word, listed

COMMAND, KEYWORDS, STATEMENT = "command", "keywords", "statement"


class Question(Struct, frozen=True):
    """What the guards compare, and what a decision may use."""

    words: tuple[Word, ...]  # content words in order, with their lemmas
    kinds: tuple[str, ...]  # question words in order: how, why, what, if (yes or no) ...
    shape: str  # of a text without any: "command", "keywords" or "statement"; else empty
    modals: frozenset[str]
    tense: str  # past, present, future or empty
    persons: tuple[str, ...]  # who speaks of whom: 1 for I and me, 2 for you, 1s for my, 2s for your
    negations: tuple[Negation, ...]
    preamble: int  # words before the clause that asks: "My tyre is flat, how do I fix it?"
    clauses: bool  # several clauses, or a word like `every`: `not every` is not `every ... not`
    numbers: tuple[str, ...]
    units: tuple[str, ...]  # that follow a number
    quantifiers: tuple[str, ...]  # all, some, only ... and `and`, `or`
    verbs: frozenset[str]  # be and have, if one of them is the verb of the text
    trailing: tuple[str, ...]  # function words at the end: "where are you from"
    marks: Marks
    verbatim: tuple[str, ...] | None  # all tokens of code, or of a language other than English; else None
    is_code: bool
    wording: bool  # it asks about words, so synonyms do not count
    plain: tuple[str, ...]  # all tokens in lower case, with greetings and the like removed

    @property
    def kind(self) -> str:
        """The first question word, later ones may be relative pronouns; the shape of a text without any."""
        return self.kinds[0] if self.kinds else self.shape

    @classmethod
    def read(cls, text: str) -> "Question":
        """Parse a text."""
        plain = words.tokens(text)
        polite = questions.without_politeness(synonyms.one_word(" ".join(numbers.canonical(plain))))
        tokens = questions.read(polite).split()
        while tokens and tokens[-1] in _STOPS:
            tokens.pop()
        content, negations, trailing = _content(tokens, is_told=_is_told(polite.split()))
        if text != text.lower() and words.case_tells(text):
            content = _marked_plain(content, plain)
        strong = any(map(_is_wording, ("", *(word.text for word in content)), content)) or _quotes_words(plain)
        weak = any(not _WEAK_WORDING.isdisjoint(word.lemmas) for word in content)
        wording = strong or (weak and len(content) <= _SHORT)
        read = marks.read(text, about_text=strong or weak)
        asked = polite.split()
        is_code = bool(_CODE.search(text))
        return cls(
            words=content,
            kinds=questions.kinds(tokens),
            shape=_shape(tokens, content),
            modals=questions.modals(tokens, asked),
            tense=_tense(tokens, asked, content),
            persons=questions.persons(asked),
            negations=negations,
            preamble=_preamble(tokens),
            clauses=not (_CLAUSES | _SCOPES).isdisjoint(tokens[1:]),
            numbers=tuple(token for token in tokens if token.startswith(NUMBER)),
            units=numbers.units(tokens),
            quantifiers=tuple(
                token
                for before, token in pairwise(("", *tokens))
                if token in _QUANTIFIERS and (token, before) not in _NO_QUANTIFIERS
            ),
            verbs=_verbs(tokens),
            trailing=trailing,
            marks=read,
            verbatim=_verbatim(text, read, plain, is_code=is_code),
            is_code=is_code,
            wording=wording,
            plain=tuple(token.removeprefix(NAME) for token in asked if token not in _STOPS),
        )


_CLAUSES = frozenset({"and", "or", "vs", "but", "while", "if", "because", "when", "that", "?who", "?what", ",", "."})
_SCOPES = listed(
    "all every each both many most much only even always also still some any few several everyone everything"
)
_QUANTIFIERS = listed(
    "all every each some any no only both many much most few several half either neither and or even just always "
    "sometimes"
)
# "The most" is a degree, and "what are some" is "what are".
_NO_QUANTIFIERS = {("most", before) for before in ("the", "is", "are", "my", "your")} | {
    ("some", before) for before in ("is", "are", "of", "")
}
_CONJUNCTIONS = {"and": "and", "or": "or", "vs": "vs", "versus": "vs"}
# Questions about words: with a synonym in its place they ask something else.
STRONG_WORDING = listed(
    "translate translation spell spelling pronounce pronunciation rhyme synonym antonym conjugate plural rephrase "
    "paraphrase proofread etymology acronym abbreviation letter syllable verb noun adjective sentiment tone capitalize "
    "capitalization punctuate punctuation caption lowercase uppercase grammatical grammatically grammar"
)
_WEAK_WORDING = listed(
    "mean meaning define definition word phrase sentence stand message review correct paragraph quote"
)
_SENT = listed("cover resignation recommendation love business reference thank termination offer complaint motivation")


def _is_wording(before: str, word: Word) -> bool:
    """Whether a word says that words are asked about. A cover letter is none of the alphabet."""
    return not STRONG_WORDING.isdisjoint(word.lemmas) and not (before in _SENT and "letter" in word.lemmas)


_SHORT = 3  # content words: of so few, "what does buy mean" asks about a word
_CODE = re.compile(
    r"[{}\\]|[)\w];\s*(?:\n|$)|==|!=|[-=]>|::|</|\(\)\s*[.:]|^[^\S\n]*(?:def|class|import|from|SELECT|#include)\b.*\n",
    re.MULTILINE,
)
_SPANISH = re.compile(r"[¿¡]")
_FOREIGN_SHARE = 0.15  # of letters outside ASCII
_FOREIGN = listed(
    # German, Dutch, Swedish, Danish, Norwegian
    "der das und ist nicht wie ich mein meine ein eine kann wo warum welche welcher welches wer wen wem wann kein "
    "keine mit von zu auf im ins für oder sind wird werden haben hat sich dem den viel viele man muss darf soll "
    "gibt er sie wir ihr ihm ihn uns euch es bei nach aus vom zum zur beim wenn dass aber oder noch schon nur sehr "
    "diese dieser dieses bedeutet heißt wurde worden wäre het een niet voor mijn hoe wat waar waarom kan ik och att "
    "det jag hur vad är kan hvordan hva hvor jeg ikke og på til "
    # French
    "le les des est une du je mon ma pour comment quel quelle quels quelles où que qui quoi combien pourquoi dans "
    "avec sur sans au aux ce cette il elle nous vous sont était être avoir fait signifie leur leurs cette ces ses "
    "peut doit faire puis quand est-ce "
    # Spanish, Portuguese, Italian
    "el la los las como cómo para por una un mi es puedo qué que cuál cuáles dónde cuándo cuánto cuántos quién con "
    "en se del al su sus está son ser hay debo puede lo per che di della posso come cosa dove quando quanto chi "
    "significa significado tiene tienen quien hacer muy pero fare avere sono il gli meu minha em um uma não quem "
    "onde qual quais são ao "
    # Indonesian, Hindi in Latin letters
    "apa yang bagaimana cara adalah untuk dari itu kya hai hain kaise ka ki ke mein kab kyun kyu nahi hota chahiye "
    # Polish, Czech, Turkish
    "ve bir jak czy nie na w z co gdzie kiedy kto ile jest są nasıl ne nedir mi kaç için "
)
_ENGLISH = words.FUNCTION | polarity.NEGATIONS | set(PREPOSITIONS) | {"how", "why", "when", "where", "vs", "versus"}
_AMBIGUOUS = (_FOREIGN & _ENGLISH) | listed("a an as do so on no all die was is we he or")  # they tell nothing
_STOPS = frozenset({".", ","})
_SELDOM = 3  # if fewer than one word in so many is known, a text is not English
_FEW = 2  # words: so many foreign ones decide; a text of no more does not show its language


def _is_told(asked: list[str]) -> bool:
    """Whether a text says how something is or was done: "explain how doctors treated it", of which `how` remains."""
    at = asked.index("how") + 1 if "how" in asked[:2] else len(asked)
    return at < len(asked) and _is_content(asked[at]) and _HELPING.isdisjoint(asked)


def _content(
    tokens: list[str], *, is_told: bool = False
) -> tuple[tuple[Word, ...], tuple[Negation, ...], tuple[str, ...]]:
    """Return the content words, the negations, and the function words after the last content word."""
    content: list[Word] = []
    negations: list[Negation] = []
    lead: list[str] = []
    article = joint = place = ""
    phrase = part = 0
    be = helped = False  # a form of be, any auxiliary verb, since the clause began
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else ""
        if _is_content(token):
            text = token.removeprefix(NAME)
            passive = past = False
            by = tokens[at + 1 : at + 2] == ["by"]
            if by and be and text in words.UNCHANGED:
                passive = True
            elif not token.startswith(NUMBER) and words.inflection(text) == "past":
                passive = (be and not article) or by
                past = not (helped or article or passive) and text not in words.MAKERS and _may_be_finite(before)
            part += bool(joint)
            content.append(_word(token, tuple(lead), article, place, phrase, part, joint, passive=passive, past=past))
            lead, article, joint = [], "", ""
            continue
        if polarity.negated(token):
            negations.append(_negation(tokens, at, len(content)))
        article = _ARTICLES.get(token, article)
        joint = _CONJUNCTIONS.get(token, joint)
        lead += _leading(token, before)
        be, helped = be or token in _BE, helped or (token in _HELPING and not (is_told and token == _HOW))
        if token in CLAUSES or token in _STOPS or token in _CONJUNCTIONS:
            be = be and token in _CONJUNCTIONS
            helped = helped and token in _CONJUNCTIONS
        if token in PREPOSITIONS:
            place, phrase = PREPOSITIONS[token], phrase + 1
        elif token not in _ARTICLES and token not in _CONJUNCTIONS and token not in _OWNERS:
            phrase += bool(place)
            place = ""
    return _joined(content), tuple(negations), tuple(lead)


_BE = listed("is are was were am be been being get gets got")
_HOW = "?how"
_HELPING = _BE | listed("do does did has have had can could may might will would shall should must ?how ?way ?want ?if")
_OWNERS = listed("my your our their his her its 's this that these those some any")


def _may_be_finite(before: str) -> bool:
    """Whether a verb after this token has a subject: a question word or a noun."""
    return before in {"?who", "?what", "i", "you", "we", "they", "he", "she", "it", "that", "who", "which"} or (
        bool(before) and _is_content(before)
    )


def _negation(tokens: list[str], at: int, after: int) -> Negation:
    """Read `not` as one of the whole clause, unless it stands before what it negates: "is not voting a crime"."""
    token, before, following = tokens[at], tokens[at - 1] if at else "", " ".join(tokens[at + 1 : at + 2])
    if token == CLAUSAL:
        return Negation(after, clausal=True, word="not")
    if token == _NOT:
        # "My card is not working" has its subject before the verb.
        has_subject = at > 1 and (_is_content(tokens[at - 2]) or tokens[at - 2] in words.FUNCTION)
        of_subject = following.endswith("ing") and before in _HELPING and not has_subject
        of_phrase = (before in PREPOSITIONS and following.endswith("ing")) or _is_relative(tokens, at)
        clausal = not (of_subject or of_phrase) and "to" not in {before, following} and following not in _QUANTIFIERS
        return Negation(after, clausal=clausal and bool(before) and not before.startswith("?"), word="not")
    return Negation(after, clausal=False, word=_FREQUENCIES.get(token, token))


def _is_relative(tokens: list[str], at: int) -> bool:
    """Whether `not` belongs to the noun before it: "guests not on the list", "cars not made here", and no verb yet."""
    following = tokens[at + 1] if at + 1 < len(tokens) else ""
    asked = any(token.startswith("?") for token in tokens[:at])
    follows_noun = at > 0 and _is_content(tokens[at - 1]) and _BE.isdisjoint(tokens[:at])
    is_part = words.inflection(following) == "past" and _HELPING.isdisjoint(tokens[:at])
    return asked and follows_noun and (following in _PLACES or is_part)


_PLACES = listed("in on at from with under near inside")


_NOT = "not"
_FREQUENCIES = {"lacks": "lack", "lacking": "lack"}
_ARTICLES = {"a": "a", "an": "a", "the": "the"}
# One form per auxiliary verb and tense, so that `do cats` is `does a cat`.
_FORMS = {
    "is": "is",
    "are": "is",
    "am": "is",
    "was": "was",
    "were": "was",
    "does": "do",
    "has": "have",
    "could": "can",
} | {
    ABLE: "can",
    ALLOWED: "can",
}
_DO = frozenset({"do", "does", "did"})
_NO_LEAD = frozenset({"a", "an", "the", ",", ".", "and", "or", "vs", "versus", "not", CLAUSAL})


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
        article = "" if sole and word.article == "the" else word.article
        if lead != word.lead or article != word.article:
            found.append(replace(word, lead=lead, article=article))
        else:
            found.append(word)
    return tuple(found)


def _marked_plain(content: tuple[Word, ...], plain: list[str]) -> tuple[Word, ...]:
    """Mark words as `plain` that would be capitalized if they were names. The first word of a sentence always is."""
    inside = {token for before, token in pairwise(plain) if before != "."}
    return tuple(replace(word, plain=True) if not word.named and word.text in inside else word for word in content)


def _is_content(token: str) -> bool:
    if token.startswith((NAME, NUMBER)):
        return True
    if words.is_symbol(token):  # `marks` compares signs
        return False
    if token.startswith("?") or token == POSSESSIVE or token in words.FUNCTION or token in words.IDLE:
        return False
    return (
        token not in PREPOSITIONS
        and token not in _CONJUNCTIONS
        and token not in {DOING, MAKES, ABLE, ALLOWED}
        and not polarity.negated(token)
    )


def _word(  # noqa: PLR0913 - what is known of it
    token: str,
    lead: tuple[str, ...],
    article: str,
    place: str,
    phrase: int,
    part: int,
    joint: str,
    *,
    passive: bool,
    past: bool,
) -> Word:
    named = token.startswith(NAME)
    text = token.removeprefix(NAME)
    senses, meanings = synonyms.meanings(text)
    common = not token.startswith(NUMBER) and vocabulary.is_common(text)
    return Word(
        text,
        named,
        plain=False,  # see `_marked_plain`
        lead=lead,
        article=article,
        place=place,
        phrase=phrase,
        part=part,
        joint=joint,
        passive=passive,
        past=past,
        lemmas=words.lemmas(text),
        senses=senses,
        meanings=meanings,
        common=common,
    )


def _tense(tokens: list[str], asked: list[str], content: tuple[Word, ...]) -> str:
    """Return the tense that a verb shows. "Who is the founder of it" asks who founded it, so it shows none."""
    helped = "past" if "did" in asked else "present" if {"do", "does"} & set(asked) else ""
    shown = questions.tense(tokens) or helped
    if shown == "present" and not all(words.MAKERS.isdisjoint(word.lemmas) for word in content):
        return ""
    return shown or ("past" if any(word.past for word in content) else "")


def _preamble(tokens: list[str]) -> int:
    """Return the number of content words before the clause that asks."""
    asks = next((at for at, token in enumerate(tokens) if token.startswith("?")), 0)
    ends = [at for at, token in enumerate(tokens[:asks]) if token in _STOPS]
    return sum(map(_is_content, tokens[: ends[-1]])) if ends else 0


def _shape(tokens: list[str], content: tuple[Word, ...]) -> str:
    """Return what a text without a question word looks like: a command, a few keywords or a statement."""
    if not tokens or any(token.startswith("?") for token in tokens):
        return ""
    if tokens[0] in _COMMANDS and len(tokens) > 1:
        return COMMAND
    is_terse = all(_is_content(token) or token in PREPOSITIONS or token in {"and", "or", "vs"} for token in tokens)
    return KEYWORDS if (is_terse or len(tokens) <= _TERSE) and content else STATEMENT


_TERSE = 4  # tokens
_COMMANDS = listed(
    "write create make summarize convert translate generate find list give name show share define draw compose draft "
    "rewrite rephrase correct fix solve calculate compute compare suggest recommend propose plan design build "
    "implement sort count add subtract multiply divide simplify rate classify extract identify review analyze evaluate "
    "predict tell explain describe outline imagine pretend act play render decode encode count search look call send "
    "order book buy cancel set turn open close start stop delete remove change edit check read say sing recite "
    "brainstorm improve shorten expand format parse answer complete continue choose pick select state prove"
)


def _verbs(tokens: list[str]) -> frozenset[str]:
    """Return be or have if one of them is the verb of the text: "is Windows a virus", "does Windows have a virus"."""
    found = set()
    last_be = [at for at, token in enumerate(tokens) if token in _BE]
    haves = [at for at, token in enumerate(tokens) if token in _HAVE]
    following = {at: tokens[at + 1 : at + 4] for at in haves}
    if any(not any(words.inflection(token) == "past" for token in after) for after in following.values()):
        found.add("have")
    if last_be and not any(words.inflection(token) in {"past", "ing"} for token in tokens[last_be[0] + 1 :]):
        found.add("be")
    return frozenset(found)


_HAVE = listed("has have had having")


def _quotes_words(tokens: list[str]) -> bool:
    """Whether a text asks how something is said, or when a word is used."""
    return ("say" in tokens and "how" in tokens) or ("use" in tokens and _GRAMMAR in " ".join(tokens))


_GRAMMAR = "in a sentence"


def _verbatim(text: str, read: Marks, tokens: list[str], *, is_code: bool) -> tuple[str, ...] | None:
    """Return what must be equal in a text that the other guards cannot read."""
    if is_code:
        return tuple(read.text.split())
    letters = [letter for letter in read.text if letter.isalpha()]
    outside = sum(not letter.isascii() for letter in letters)
    if outside > _FOREIGN_SHARE * len(letters) or _SPANISH.search(text) or _is_foreign(tokens):
        pieces = (piece.strip(_HARMLESS) for piece in read.text.split())
        return tuple(piece for piece in pieces if piece)
    return None


_HARMLESS = " .,;:?!\"'"


def verbatim_differs(a: Question, b: Question) -> bool:
    """Compare texts that must be equal; where one has no capitals at all, case does not count."""
    left, right = a.verbatim or (), b.verbatim or ()
    if not (a.is_code or b.is_code) and _pauses_differ(a.marks.text, b.marks.text):
        return True
    if left == right or a.is_code or b.is_code:
        return left != right
    if a.marks.is_lower or b.marks.is_lower:
        return [piece.lower() for piece in left] != [piece.lower() for piece in right]
    first = [side[0].lower() for side in (left, right) if side]
    return left[1:] != right[1:] or len(first) != 2 or first[0] != first[1]  # noqa: PLR2004


def _pauses_differ(left: str, right: str) -> bool:
    """Whether two texts have commas at other places: "to hang not, to spare" is not "to hang, not to spare"."""
    places = [[at for at, piece in enumerate(text.split()[:-1]) if piece.endswith(",")] for text in (left, right)]
    return places[0] != places[1]


def _is_foreign(tokens: list[str]) -> bool:
    plain = [token.removeprefix(NAME) for token in tokens if token.removeprefix(NAME).isalpha()]
    foreign = sum(token in _FOREIGN and token not in _AMBIGUOUS for token in plain)
    english = sum(token in _ENGLISH and token not in _AMBIGUOUS for token in plain)
    if foreign >= _FEW and foreign > english:
        return True
    if english or len(plain) < _FEW:
        return False
    known = sum(vocabulary.is_common(token) for token in plain)
    return (foreign > 0 and known < len(plain) - foreign) or (_SELDOM * known < len(plain) and len(plain) > _FEW)
