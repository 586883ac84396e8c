"""A rule: which requests it refuses, and why, with examples on both sides."""

import re
from functools import cache

from msgspec import Struct

from millrace.caches.reusable.reading import Sentence

# Reasons, as users are shown them.
CHANCE = "it asks for something new each time"
TIME = "the answer depends on the time"
ASKER = "the answer depends on the user"
DONE = "it asks for something done, not something told"
BEFORE = "it refers to something said before"


class Rule(Struct, frozen=True):
    """Refuses a sentence that has one of its words and matches its pattern, and not the other one."""

    name: str
    reason: str
    words: frozenset[str]  # without one of them the pattern is not tried
    pattern: str
    unless: str  # empty if nothing is
    general: bool  # it reads general questions and statements too
    moods: frozenset[str]  # it reads only sentences of these moods; of all, if empty
    refused: tuple[str, ...]
    kept: tuple[str, ...]  # near examples that it must not refuse

    def refuses(self, sentence: Sentence) -> bool:
        """Whether a sentence that has one of the words asks for this."""
        if not self.general and (sentence.general or sentence.statement):
            return False
        if self.moods and sentence.mood not in self.moods:
            return False
        if not _compiled(self.pattern).search(sentence.rest):
            return False
        if self.unless and _compiled(self.unless).search(sentence.rest):
            return False
        return self.reason != DONE or bool(sentence.mood) or not _PROGRAMS.search(sentence.rest)


def rule(  # noqa: PLR0913 - one for each column of the table
    name: str,
    reason: str,
    words: str,
    pattern: str = "",
    *,
    unless: str = "",
    general: bool = False,
    moods: str = "",
    refused: tuple[str, ...],
    kept: tuple[str, ...],
) -> Rule:
    """Return a rule of the table. Without a pattern, one of its words is enough."""
    return Rule(
        name,
        reason,
        frozenset(words.split()),
        pattern,
        unless,
        general,
        frozenset(moods.split()),
        refused,
        kept,
    )


def deed(
    name: str, verbs: str, objects: str = "", *, unless: str = "", refused: tuple[str, ...], kept: tuple[str, ...]
) -> Rule:
    """Return a rule that refuses to have something done: a verb that opens a clause, and what it is done to.

    `objects` and `unless` are words and phrases, separated by commas; a plural is meant too. Without objects, the verb
    is enough.
    """
    either = verbs.replace(" ", "|")
    pattern = rf"(?:^|, |\b(?:and|then) )(?:{either})\b"
    if objects:
        pattern += rf".*?\b(?:{_either(objects)})s?\b"
    excepted = rf"\b(?:{_either(unless)})s?\b" if unless else ""
    return rule(name, DONE, verbs, pattern, unless=excepted, refused=refused, kept=kept)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern when a sentence first needs it: few are ever needed, and all would take 0.1 s."""
    return re.compile(pattern)


def _either(phrases: str) -> str:
    """Return a pattern for any of the phrases; up to two words may follow "my" or "the"."""
    either = "|".join(phrase.strip() for phrase in phrases.split(","))
    return re.sub(r"\b(my|the) ", r"\1 (?:[\\w'&]+ ){0,2}?", either)


# Among these words an order is a search for how it is done: "add a column in sql", "turn off autocorrect android".
_PROGRAMS = re.compile(
    r"\b(?:python|java|javascript|typescript|js|jquery|react|angular|node|php|ruby|rust|golang|c\+\+|c#"
    r"|sql|mysql|postgres"
    r"|postgresql|mongodb|sqlite|excel|sheets|powerpoint|outlook|css|html|xml|json|yaml|csv|regex|bash"
    r"|shell|vim|emacs|git|github|docker"
    r"|kubernetes|kubectl|linux|ubuntu|debian|nginx|apache|aws|azure|s3|flask|django|pandas|numpy|matlab|android|ios"
    r"|iphone|ipad|macbook|mac|macos|windows|chrome|firefox|safari|photoshop|wordpress|api|function|method|array"
    r"|string|column|table of contents|variable|pytest|cron|curl|wget|boto3|r|swift|kotlin|scala|perl|latex|unity"
    r"|how to|vs|versus|meaning|definition|synonym|lyrics|chords|rules|tips|tutorial|example|examples)\b"
)
