"""The check of the language of an answer: that it is the question's, where the question asks for no other.

A script is told by its letters, a language by its function words. Where either text is short, mixed, or in a language
that is not known here, nothing is said.
"""

import re
import unicodedata
from collections import Counter

from millrace.funnel.checks.candidate import Candidate

_LONG = 12  # words of a text whose language is told
_LETTERS = 24  # of a text whose script is told
_MOST = 1500  # characters of each text that are read
_SHARE = 0.85  # of the letters that are of one script
_CLEAR = 3  # times as many function words of one language as of any other
_LEAST_WORDS = 4  # function words that tell a language

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_MARKS = re.compile(r"`[^`]*`|\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|https?://\S+")
_TRANSLATES = re.compile(
    r"translat|language|übersetz|sprache|tradui|traduc|langue|idioma|lingua|tradu[zç]|перев|翻译|翻譯|翻訳|번역|"
    r"\b(?:in|into|to|auf|ins|en|em|na|in het|på|po)\s+(?:\w+\s+)?(?:english|german|french|spanish|"
    r"italian|portuguese|dutch|polish|russian|"
    r"chinese|mandarin|japanese|korean|arabic|hindi|turkish|latin|greek|hebrew|swedish|ukrainian|\w+ish|\w+ese|"
    r"deutsch\w*|englisch\w*|französisch\w*|spanisch\w*|anglais|allemand|français|espagnol|inglés|alemán|francés|"
    r"español|inglese|tedesco|francese|spagnolo|inglês|alemão)\b|"
    r"\b(?:english|german|french|spanish|italian|portuguese|dutch|polish|russian|chinese|mandarin|"
    r"japanese|korean|arabic|"
    r"hindi|turkish|latin|greek|hebrew|swedish|ukrainian|anglais|allemand|français|espagnol|inglés|alemán|francés|"
    r"español|deutsch|englisch|französisch|spanisch|inglese|italiano|português)\b|英|中文|汉语|日本語|한국어|на русск",
    re.IGNORECASE,
)
_FUNCTION = {
    language: frozenset(words.split())
    for language, words in {
        "English": "the of and to is are it that you with for this your from which was be have has not on at "
        "by an they what how why does do can i my we their has",
        "German": "der die das und ist nicht ein eine den dem mit für auf zu von sie ich wird sind auch des "
        "im bei oder es mir mich ihr man hat aber wenn als wie warum bitte noch nur kann einen einer",
        "French": "le les des et est une dans pour que qui vous sur pas avec ce cette sont plus au aux du il elle ne",
        "Spanish": "el los las y es una que por para con del se su lo como más pero son al esta este muy no un hay",
        "Italian": "il gli e è una che per con del della sono non di si come più le dei nella questo anche alla lo",
        "Portuguese": "o os as e é uma que para com do da não em se por são mais como ao pelo um está",
        "Dutch": "de het een en is van niet voor met op zijn dat te die aan ook er bij naar wordt deze om je",
    }.items()
}
_LANGUAGES_OF = {
    word: tuple(language for language, known in _FUNCTION.items() if word in known)
    for word in frozenset().union(*_FUNCTION.values())
}
_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SCRIPTS = {
    "CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "CYRILLIC": "Cyrillic",
    "ARABIC": "Arabic", "HEBREW": "Hebrew", "GREEK": "Greek", "DEVANAGARI": "Devanagari", "THAI": "Thai",
    "LATIN": "Latin", "BENGALI": "Bengali", "TAMIL": "Tamil", "GEORGIAN": "Georgian", "ARMENIAN": "Armenian",
}  # fmt: skip


def language(candidate: Candidate) -> str:
    """Say whether the answer is in another script or language than its question, which asks for none."""
    found = _differ(_read(candidate.question), candidate.read.prose)
    # What the question asks for is looked at last: it takes longest, and seldom do the two differ.
    return "" if not found or "```" in candidate.question or _TRANSLATES.search(candidate.question) else found


def _differ(asked: str, prose: str) -> str:
    """Say whether the two are in different scripts or languages."""
    one = _script(asked)
    if one is None:
        return ""
    said = _read(prose)
    other = _script(said)
    if other is None:
        return ""
    if one != other and {one, other} != {"Chinese", "Japanese"}:
        return f"the question is in {one} script, the answer in {other}"
    spoken = _language(asked)
    if spoken is None:
        return ""
    written = _language(said)
    return "" if written is None or spoken == written else f"the question is in {spoken}, the answer in {written}"


def _read(text: str) -> str:
    return _MARKS.sub(" ", text)[:_MOST]


def _script(text: str) -> str | None:
    latin = len(text.encode("ascii", "ignore").translate(None, _NO_LETTERS))
    if text.isascii():
        return "Latin" if latin >= _LETTERS else None
    others = {letter: count for letter, count in Counter(_NOT_ASCII.findall(text)).items() if letter.isalpha()}
    letters = latin + sum(others.values())
    counts = Counter({"Latin": latin})
    for letter, count in others.items():
        script = unicodedata.name(letter, "?").split()[0]
        counts[_SCRIPTS.get(script, script)] += count
    dense = counts["Chinese"] + counts["Japanese"] + counts["Korean"]  # one letter says as much as a few others
    if letters + 2 * dense < _LETTERS:
        return None
    if counts["Japanese"]:
        counts["Japanese"] += counts.pop("Chinese", 0)
    [(script, most)] = counts.most_common(1)
    return script if most >= _SHARE * letters else None


def _language(text: str) -> str | None:
    words = _WORD.findall(text)
    if len(words) < _LONG:
        return None
    counts = dict.fromkeys(_FUNCTION, 0)
    for word in words:
        for name in _LANGUAGES_OF.get(word.lower(), ()):
            counts[name] += 1
    second, most = sorted(counts.values())[-2:]
    is_clear = most >= max(_LEAST_WORDS, _CLEAR * second) and most >= len(words) / 8
    return max(counts, key=counts.__getitem__) if is_clear else None
