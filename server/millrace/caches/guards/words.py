"""Text -> tokens, and the lemmas of a token. Stems cautiously: a form that no rule explains stays a word of its own.

A token is lower case. The prefix `_` marks a name, which is a capital that grammar does not require; `#` a number; `?`
a question word that `questions` has read.
"""

import re
import unicodedata
from functools import lru_cache

from msgspec import Struct

NAME = "_"
NUMBER = "#"
POSSESSIVE = "'s"
CLAUSAL = "nt"  # "not" that is known to negate a clause


def listed(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


class Word(Struct, frozen=True):
    """A content word and its place in the sentence."""

    text: str
    named: bool  # written as a name
    plain: bool  # not written as a name, in a text where a name would have been capitalized
    lead: tuple[str, ...]  # function words before it, in order: be, have, prepositions, persons
    article: str  # "a", "the" or empty
    place: str  # the preposition of its phrase
    phrase: int  # the number of its phrase: prepositions and clauses begin a new one
    part: int  # how many of "and", "or", "vs" are before it
    joint: str  # "and", "or", "vs" if that joins it to the word before, else empty
    passive: bool  # a participle after a form of be, or before `by`
    past: bool  # a finite verb in the past, such as "fell" in "why Rome fell"
    lemmas: frozenset[str]
    senses: frozenset[int]  # groups of `synonyms` whose words have one meaning
    meanings: frozenset[int]  # groups of `synonyms` of any kind
    common: bool  # `vocabulary` has it


# Function words. Prepositions are in `order`, negations in `polarity`, modals in `questions`.
FUNCTION = listed(
    "a an the some any this that these those is are was were be been being do does did done has have had having "
    "i you we one it its my your our me myself yourself ourselves mine yours ours someone somebody anyone "
    "and or but so there here that what which who whom whose whether "
    "can could may might will would shall should must ought let 's , ."
)
# Fillers have no meaning of their own. Idle words may even stand in only one of two texts.
IDLE = listed("please kindly actually really basically honestly hmm anyway")
FILLERS = listed(
    "please kindly thanks thank hi hello hey actually really just basically simply exactly very quite literally "
    "precisely specifically ok okay well own ever hmm honestly anyway"
)

_APOSTROPHES = str.maketrans({"’": "'", "ʼ": "'", "‘": "'", "`": "'", "´": "'"})
_CONTRACTIONS = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\bcan(?:'t|not|t)\b", f"can {CLAUSAL}"),
        (r"\bwon't\b", f"will {CLAUSAL}"),
        (r"\bshan't\b", f"shall {CLAUSAL}"),
        (r"n't\b", f" {CLAUSAL}"),
        (r"\bwont\b(?! to\b)", f"will {CLAUSAL}"),
        (r"\b(do|does|did|is|are|was|were|has|have|had|would|could|should)nt\b", rf"\1 {CLAUSAL}"),
        (r"\blet's\b", "let us"),
        (r"\b(what|who|where|how|that|there|it|when|why|he|she|here)'s\b", r"\1 is"),
        (r"\b(what|where|how|that|who)s\b", r"\1 is"),
        (r"\bi'?m\b", "I am"),
        (r"'re\b", " are"),
        (r"\bive\b|'ve\b", lambda match: "I have" if match[0][0] != "'" else " have"),
        (r"'ll\b", " will"),
        (r"'d\b", " would"),
        (r"(?<=s)'(?=\s)", " 's"),
        (r"'s\b", " 's"),
        (r"\be-(?=mail)", "e"),
        (r"\bwi-fi\b", "wifi"),
    )
)
# Those that match in a text without an apostrophe, as most texts are.
_BARE = tuple(pair for pair in _CONTRACTIONS if pair[0].search("cannot wont dont whats im ive e-mail wi-fi"))
_ANY_BARE = re.compile("|".join(pattern.pattern for pattern, _ in _BARE), re.IGNORECASE)
_BARE_WORD = re.compile(r"\w+")
_BARE_WORDS = listed(
    "cant cannot wont im ive whats wheres hows thats whos dont doesnt didnt isnt arent wasnt werent hasnt havent hadnt "
    "wouldnt couldnt shouldnt"
)
_DOTTED = re.compile(r"\b(?:[A-Za-z]\.){2,}")  # U.S., e.g.
_TOKEN = re.compile(
    r"'s\b|[A-Za-z]\+\+|[CF]\#|\.NET\b|\bnode\.js\b"
    r"|[^\W\d_]+(?:_\w+)*"
    r"|\d+[ai]\b"  # of a model or a version: not an article, nor "I"
    r"|(?<![\w.)])-?(?:\d+(?:[.,:]\d+)*|\.\d+)"  # a sign, only if no operand is before it
    r"|\d+(?:[.,:]\d+)*|[-+*/=<>%^&|~$€£¥₹@°]|[,;]|:(?=\s)|[.?!\n]+",
    re.IGNORECASE,
)
_NEVER_NAMES = listed("how what why when where which is are do does please tell i pc tv")  # "Hi, How do I"
_LONG = 4  # letters: shorter words are lower case even in titles
_TITLE_WORDS = 3  # long words, at least, before capitals make a title
_SHORTEST = 3  # letters: words this short have no ending to cut


def tokens(text: str) -> list[str]:
    """Return the tokens of a text, with contractions expanded and names marked."""
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    if "." in text:
        text = _DOTTED.sub(lambda match: match[0].replace(".", ""), text)
    for pattern, replacement in _CONTRACTIONS if "'" in text else _BARE if _has_bare(text) else ():
        text = pattern.sub(replacement, text)
    names_marked = case_tells(text)
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        first = not found or found[-1] == "."
        found.append((NAME if names_marked and _is_name(token, first=first) else "") + _plain(token))
    return found


def _has_bare(text: str) -> bool:
    """Whether any of `_BARE` may match. In a text of ASCII, words tell it in a fifth of the time."""
    if not text.isascii():
        return _ANY_BARE.search(text) is not None
    lower = text.lower()
    return not _BARE_WORDS.isdisjoint(_BARE_WORD.findall(lower)) or "e-mail" in lower or "wi-fi" in lower


def _plain(written: str) -> str:
    if written in ",;:":
        return ","
    if written[0] in ".?!\n" and not written[1:].isalpha():
        return "."
    lower = written.lower()
    return _SLIPS.get(lower, lower)


# Slips of the keys in grammar words, which `vocabulary` cannot know from a name.
_SLIPS = {
    **dict.fromkeys(("teh", "hte", "thw", "tje"), "the"),
    **dict.fromkeys(("waht", "whta", "wht"), "what"),
    **dict.fromkeys(("hwo", "hpw", "hoow"), "how"),
    **dict.fromkeys(("adn",), "and"),
    **dict.fromkeys(("wich", "whcih", "wihch"), "which"),
    **dict.fromkeys(("becuase", "becasue", "cuz", "coz"), "because"),
    **dict.fromkeys(("wehn", "whne"), "when"),
    **dict.fromkeys(("whre", "wher", "wehre"), "where"),
    **dict.fromkeys(("shoud", "shuold", "shold"), "should"),
    **dict.fromkeys(("acn",), "can"),
    **dict.fromkeys(("taht", "thta"), "that"),
    **dict.fromkeys(("wiht", "wtih"), "with"),
    **dict.fromkeys(("deos", "doez"), "does"),
}


def case_tells(text: str) -> bool:
    """Whether capitals mark names in this text, unlike in a title or in all capitals."""
    if text.islower():
        return True
    long = [word for word in re.findall(r"[^\W\d_]+", text) if len(word) >= _LONG]
    return not (len(long) >= _TITLE_WORDS and all(word[0].isupper() for word in long))


def _is_name(token: str, *, first: bool) -> bool:
    if not token[0].isalpha() or token.lower() in _NEVER_NAMES:
        return False
    return token[1:] != token[1:].lower() or (token[0].isupper() and not first)


def is_symbol(token: str) -> bool:
    """Whether a token is an operator or a sign."""
    return not token[-1].isalnum() and token not in {",", ".", POSSESSIVE}


_IRREGULAR_VERBS = """
be been being | become became | begin began begun | bend bent | bite bit bitten | bleed bled | blow blew blown
break broke broken | breed bred | bring brought | build built | burn burnt | buy bought | catch caught
choose chose chosen | come came | creep crept | deal dealt | dig dug | do did done | draw drew drawn | dream dreamt
drink drank drunk | drive drove driven | eat ate eaten | fall fell fallen | feed fed | feel felt | fight fought
find found | flee fled | fly flew flown | forbid forbade forbidden | forget forgot forgotten | forgive forgave forgiven
freeze froze frozen | get got gotten | give gave given | go went gone | grow grew grown | hang hung | hear heard
hide hid hidden | hold held | keep kept | know knew known | lay laid | lead led | learn learnt | leave left | lend lent
lie lay lain | lose lost | make made | mean meant | meet met | pay paid | prove proven | ride rode ridden
ring rang rung | rise rose risen | run ran | say said | see saw seen | seek sought | sell sold | send sent
shake shook shaken | shine shone | shoot shot | show shown | shrink shrank shrunk | sing sang sung | sink sank sunk
sit sat | sleep slept | slide slid | smell smelt | speak spoke spoken | spell spelt | spend spent | spin spun
spoil spoilt | stand stood | steal stole stolen | stick stuck | sting stung | strike struck | swear swore sworn
sweep swept | swim swam swum | swing swung | take took taken | teach taught | tear tore torn | tell told
think thought | throw threw thrown | understand understood | wake woke woken | wear wore worn | weep wept | win won
wind wound | write wrote written | arise arose arisen | awake awoke awoken | cling clung | kneel knelt | leap leapt
mistake mistook mistaken | overcome overcame | override overrode overridden | overwrite overwrote overwritten
overthrow overthrew overthrown | rebuild rebuilt | redo redid redone | repay repaid | rewrite rewrote rewritten
slay slew slain | spit spat | stink stank stunk | swell swollen | undergo underwent undergone | undo undid undone
withdraw withdrew withdrawn | withstand withstood | beat beaten
"""
# Verbs whose participle is as the infinitive: "is read by".
UNCHANGED = listed(
    "beat bet burst cast come cut hit hurt let overcome outrun overrun put read run set shut split spread"
)
_IRREGULAR_NOUNS = "child children | foot feet | goose geese | man men | mouse mice | ox oxen | person people persons"
_IRREGULAR_NOUNS += " | tooth teeth | woman women | wife wives | life lives | knife knives | wolf wolves | leaf leaves"


def _forms(table: str) -> dict[str, str]:
    """Return form -> lemma."""
    rows = (row.split() for row in re.split(r"[|\n]", table) if row.strip())
    return {form: lemma for lemma, *forms in rows for form in forms}


_PASTS = _forms(_IRREGULAR_VERBS)
_PLURALS = _forms(_IRREGULAR_NOUNS)
_IRREGULAR = _PASTS | {"lying": "lie", "lies": "lie"} | _PLURALS
_NO_ENDING = re.compile(r"(?:ss|us|is|ics|eed)$")
_NOT_INFLECTED = listed(
    "news glasses goods customs arms series species clothes always perhaps anything something nothing everything "
    "spectacles braces woods contents damages manners means dues shorts jeans looks forces spirits greens brains "
    "ashes arts savings drawers trunks blues premises quarters grounds remains sometimes whereas besides odds stairs "
    "tights papers morning evening during wedding ceiling spring string king ring thing wing sing bring hundred "
    "sacred naked wicked"
)
_NOT_IZE = (
    "rais|prais|apprais|promis|compromis|premis|demis|exercis|excis|precis|concis|advis|devis|revis|supervis|televis"
    "|improvis|practis|disguis|nois|pois|turquois|cruis|bruis|ris|aris|wis|likewis|otherwis|expertis|enterpris|surpris"
    "|franchis|merchandis|paradis|advertis|treatis|chastis|circumcis|porpois|tortois"
)
_SPELLINGS = (
    (re.compile(r"isation"), "ization"),
    (re.compile(rf"^(?!(?:un|re|dis)?(?:{_NOT_IZE})(?:e|ing))(.*)is(e[ds]?|ing)$"), r"\1iz\2"),
    (re.compile(r"lys(e[ds]?|ing)$"), r"lyz\1"),
    (re.compile(r"^grey"), "gray"),
    (re.compile(r"^jeweller"), "jeweler"),
    (re.compile(r"^jewelery"), "jewelry"),
    (re.compile(r"ramme(s?)$"), r"ram\1"),
    (re.compile(r"(?<=[a-z]{3})our(s|ed|ing|ite|ites)?$"), r"or\1"),
    (re.compile(r"tre(s?)$"), r"ter\1"),
    (re.compile(r"ogue(s?)$"), r"og\1"),
)
_VOWELS = frozenset("aeiouy")
_SHORT_STEM = re.compile(r"[^aeiou]*[aeiouy][^aeiouywx]")  # a stem of one short syllable: "hop(ing)" is from "hope"
_DOUBLED = re.compile(r"([^aeiou])\1$")


def spelled(word: str) -> str:
    """Return the American spelling of a British one."""
    for pattern, replacement in _SPELLINGS:
        word = pattern.sub(replacement, word)
    return word


@lru_cache(maxsize=2048)
def lemmas(word: str) -> frozenset[str]:
    """Return every possible dictionary form of a word, itself included."""
    word = spelled(word)
    irregular = _IRREGULAR.get(word)
    if irregular:
        return frozenset({word, irregular})
    if len(word) <= _SHORTEST or not word.isalpha() or word in _NOT_INFLECTED or _NO_ENDING.search(word):
        return frozenset({word})
    return frozenset({word, *_uninflected(word)})


# "Who is the author of it" asks who wrote it, so these count as past.
MAKERS = listed("author writer painter inventor composer discoverer founder creator")


def inflection(word: str) -> str:
    """Return "ing", "past" or an empty string: boring is not bored, and who owned it is not who owns it."""
    if word in _PASTS or word in MAKERS:
        return "past"
    ending = next((end for end in ("ing", "ed") if word.endswith(end) and len(lemmas(word)) > 1), "")
    return "past" if ending == "ed" else ending


def number_differs(left: str, right: str) -> bool | None:
    """Return False if two words are equal, True if one is the plural of the other, None if they differ."""
    left, right = spelled(left), spelled(right)
    if left == right:
        return False
    return True if left in _plural_of(right) or right in _plural_of(left) else None


def is_plural(word: str, of: str) -> bool:
    """Whether a word is the plural of another."""
    return spelled(of) in _plural_of(spelled(word))


def _plural_of(word: str) -> set[str]:
    """Return the possible singulars of a word."""
    if word in _PLURALS:
        return {_PLURALS[word]}
    if len(word) <= _SHORTEST or word in _NOT_INFLECTED or _NO_ENDING.search(word) or not word.endswith("s"):
        return set()
    return _singular(word)


def _uninflected(word: str) -> set[str]:
    if word.endswith("s"):
        return _singular(word)
    if word.endswith("ing"):
        return _infinitive(word[:-3])
    if word.endswith("ied"):
        return {word[:-1], word[:-3] + "y"}
    return _infinitive(word[:-2]) if word.endswith("ed") else set()


def _singular(word: str) -> set[str]:
    if word.endswith("ies"):
        return {word[:-3] + "y", word[:-1]}
    if re.search(r"(?:s|x|z|ch|sh|o)es$", word):
        return {word[:-2], word[:-1]}
    return {word[:-1]}


def _infinitive(stem: str) -> set[str]:
    if not _VOWELS & set(stem):
        return set()
    if _SHORT_STEM.fullmatch(stem):
        return {stem + "e"}
    if _DOUBLED.search(stem):
        return {stem, stem[:-1]}
    return {stem, stem + "e"}
