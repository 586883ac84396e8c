"""Negation and opposites: small words that reverse an answer."""

import re
from dataclasses import dataclass

from millrace.caches.guards.words import lemmas, listed

NEGATIONS = listed(
    "not no never none without neither nor nobody nothing nowhere hardly barely scarcely unless lack lacking non"
)
_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "mis", "de", "anti", "a")
_PAIRS = """
accept reject | allow block | allow deny | allow forbid | allow prevent | always never | ancient modern
before after | above below | over under | add remove | advantage disadvantage | alive dead | arrive depart
arrival departure | ask answer | asleep awake | attack defend | begin end | start stop | start finish | best worst
better worse | big small | large small | black white | borrow lend | bottom top | bright dark | build destroy
buy sell | calm angry | cause prevent | cheap expensive | clean dirty | close open | shut open | cold hot
cool warm | come go | connect disconnect | civil criminal | create delete | create destroy | dark light
day night | deep shallow | deposit withdraw | die live | download upload | dry wet | early late | easy hard
easy difficult | empty full | enable disable | activate deactivate | encrypt decrypt | enter exit | entry exit
even odd | export import | fail pass | fail succeed | failure success | false true | false correct | far near
fast slow | fat thin | female male | woman man | girl boy | mother father | wife husband | daughter son
sister brother | first last | follow lead | forget remember | freeze thaw | fresh stale | friend enemy
front back | gain lose | give take | good bad | good evil | grow shrink | guilty innocent | happy sad | hard soft
hate love | healthy sick | heavy light | hide show | high low | higher lower | highest lowest | hire fire
horizontal vertical | include exclude | increase decrease | increase reduce | raise lower | inhale exhale
inner outer | inside outside | internal external | join leave | join split | junior senior | kill save
left right | legal illegal | less more | least most | fewest most | like dislike | lock unlock | long short
loose tight | lose win | lose find | loud quiet | major minor | maximum minimum | max min | many few
marry divorce | mute unmute | natural artificial | negative positive | new old | newest oldest | north south
east west | off on | offline online | old young | open closed | optional required | optional mandatory
past future | pediatric adult | child adult | permanent temporary | plus minus | poor rich | poverty wealth
presence absence | present absent | private public | profit loss | protect expose | pull push | quick slow
rare common | raw cooked | receive send | release hold | rise fall | rough smooth | safe dangerous | safe unsafe
same different | save delete | save spend | sender receiver | sharp dull | shrink expand | sick well
simple complex | sink float | sit stand | strong weak | sunrise sunset | sweet sour | taxable exempt | teach learn
thick thin | tall short | together apart | up down | upgrade downgrade | upper lower | urban rural
victory defeat | wide narrow | wild tame | with without | wrong right | buyer seller | employer employee
landlord tenant | teacher student | input output | encode decode | compress extract | ascending descending
fixed variable | gross net | indoor outdoor | cause cure | reduce raise
"""
_OPPOSITES = frozenset(frozenset(pair.split()) for pair in re.split(r"[|\n]", _PAIRS) if pair.strip())


_INVERSION = 2  # content words of a subject that may stand between a verb and its `not`


@dataclass(frozen=True, slots=True)
class Negation:
    """One negation in a text."""

    after: int  # content words before it
    finite: bool  # it negates a verb with a subject, not an infinitive


def opposite(left: str, right: str) -> bool:
    """Whether two words are opposites, by the table or by a prefix, as in `able` and `unable`."""
    forms = [(one, other) for one in lemmas(left) for other in lemmas(right)]
    return any(frozenset(pair) in _OPPOSITES or _prefixed(*pair) or _prefixed(*reversed(pair)) for pair in forms)


def negated(word: str) -> bool:
    """Whether a word is itself a negation."""
    return word in NEGATIONS


def differ(left: tuple[Negation, ...], right: tuple[Negation, ...], *, clauses: bool) -> str | None:
    """Compare the number and the places of the negations of two texts.

    `Why doesn't the fan spin` has its negation a word earlier than `why is the fan not spinning`, so a place may differ
    by a few words. It may not with several clauses or negations, or in `not to`: there another place negates another
    word.
    """
    if len(left) != len(right):
        return "only one is negated"
    tolerance = 0 if clauses or len(left) > 1 else _INVERSION
    if all(
        a.finite == b.finite and abs(a.after - b.after) <= tolerance * a.finite
        for a, b in zip(left, right, strict=True)
    ):
        return None
    return "negations differ"


def _prefixed(word: str, other: str) -> bool:
    """Whether `other` is `word` with a negating prefix, or with -less for -ful."""
    if any(other == prefix + word for prefix in _PREFIXES):
        return True
    return word.endswith("ful") and other == word[:-3] + "less"
