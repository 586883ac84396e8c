"""Whether a text contains all that its answer depends on: no earlier turn, no current time, no particular user."""

import re

from millrace.caches.guards import words

_NO_TOPIC = "there is no topic"
_DANGLING = "it refers to something said before"
_TIME = "the answer depends on the time"
_ASKER = "the answer depends on the user"


def _any(*patterns: str) -> str:
    return f"(?:{'|'.join(patterns)})"


def _phrases(text: str) -> str:
    """Return a pattern for any of the phrases, which are separated by bars."""
    return rf"\b{_any(*(' '.join(phrase.split()) for phrase in text.split('|')))}\b"


_BE = r"(?:is|are|was|were|will be|would be|am)"
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_SEASONS = "spring|summer|autumn|fall|winter"
_WEEKDAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"

# "It" that refers to what follows: "is it safe to ...", "how long does it take to ...".
_AFTER_IT = _any(
    "possible|impossible|safe|unsafe|legal|illegal|ok|okay|normal|bad|good|better|best|worth|true|wrong|right|fine",
    "healthy|unhealthy|necessary|important|easy|hard|difficult|dangerous|common|rare|cheaper|rude|allowed|required",
    "rain|raining|snow|snowing|takes?|costs?|means? (?:to|when|if)|feel like|like to|that|a good idea|a bad idea",
)
_EXPLETIVE = re.compile(
    rf"(?<=\s)it (?:(?:is|was|will|would) )?(?:be )?(?:\w+ly )?{_AFTER_IT}\b|\bit's {_AFTER_IT}\b"
    r"|\bwhat does it mean (?:to|when|if)\b|\bas it (?:is|was)\b"
)
_PRONOUN = re.compile(r"\b(?:it|its|itself|they|them|their|theirs|he|him|his|she|her|hers)\b")
_CLAUSE = re.compile(r"[,;:.?!\n]|\b(?:and|but|if|when|because|so|or|while|after|before)\b")
# "That" refers back unless it opens a clause: "foods that ...", "is it true that ...".
_POINTING = rf"(?:{_BE}|does|did|do|about|of|like|with|for|to|on|in|why|how|what|after|before|all|and|than|by)"
_DEMONSTRATIVE = re.compile(
    r"\b(?:this|these)\b|\bthose\b(?! who)|\bthat(?=[ ]*[.?!,]|[ ]*$)"
    rf"|(?:^|\b{_POINTING} )that\b(?! (?:a|an|the|i|you|we|they|he|she|it|there|people|some|my|your)\b)"
)
_BACK = re.compile(
    r"\b(?:the|that|this|other|first|second|third|last|next|another|previous|different) ones?\b"
    r"|\bthe (?:above|below|former|latter|rest|following|other two)\b|\babove\b(?= *[.?!,]| *$)"
    r"|\b(?:previous(?:ly)?|aforementioned|earlier|(?:as )?(?:i|you) (?:said|mentioned|suggested|wrote|gave))\b"
    r"|\byour (?:last|previous|first) (?:answer|reply|message|point|response)\b"
    r"|\b(?:again|once more|one more|same thing|something else|anything else|what else|below)[ .?!]*$"
)
_FOLLOW_UP = re.compile(
    r"^(?:and|but|or|also|then|so|because|yes|yeah|no|nope|continue|go on|more|another|what about|how about|why not"
    r"|really|shorter|longer|make it|try again|thanks|thank you|ok|okay|elaborate"
    r"|(?:tell me|explain|say|give me|show me|write) more)\b"
    r"(?![ ,]+(?:please )?(?:how|why|what|when|where|who|which|can|is|are|do|does|i|the|a|an|\w+ \w+ \w+)\b)"
)
_TIMELY = re.compile(
    _phrases(
        "today | tonight | tomorrow | yesterday | nowadays | now | current | currently | latest | newest | recent"
        "| recently | upcoming | presently | at the moment | at present | so far | as of | these days | to date | ago"
        "| what (?:time|day|date|year|month) is it | what (?:day|year) is | news | headlines | forecast"
        "| what is the (?:time|date)(?! (?:of|for|difference|complexity|zone|when)) | exchange rate"
        "| (?:stock|share|bitcoin|gold|oil) prices? | price of (?:bitcoin|gold|oil|\\w+ (?:stock|shares?))"
        "| (?:live|final|half-time) scores?"
    )
    + r"|\b(?:this|next|last|past|coming) (?:\d+ )?(?:seconds?|minutes?|hours?|days?|weeks?|weekend|months?|quarter"
    rf"|years?|decade|season|morning|afternoon|evening|night|time|{_WEEKDAYS}|{_MONTHS}|{_SEASONS})\b"
    # The weather of a month or season is climate, which does not change from day to day.
    rf"|\bweather\b(?!.*\b(?:{_MONTHS}|{_SEASONS}|mean|affect|cause)\b)"
)
_MINE = r"(?:my|our|mine|ours)"
_PERSONAL = re.compile(
    rf"\b(?:what|when|where|who|which|how (?:much|many|old|long|far|big))(?: {_BE}|'s|'re) {_MINE}\b"
    rf"|^(?:is|are|was|were|has|have|had|did|does|do|will) {_MINE}\b|\b(?:was|have|had) i\b"
    r"|\bam i (?!able|allowed|permitted)"
    r"|\bdo (?:i|we) (?:have(?! to)|owe|look|sound|qualify|still|already)\b|\bdid i\b|\bwho am i\b"
    r"|\bnear me\b|\bclose to me\b|\bnear(?:by|est)\b|\baround here\b|\bremember (?:me|my|when)\b|\bfor me personally\b"
    rf"|\b{_MINE} (?:name|birthday|age|balance|appointments?|schedule|location|area|situation|question|score|grade"
    r"|results?|last|previous|next)\b"
)


def self_contained(text: str) -> str | None:
    """Return None if a text can be answered by itself, else the reason why not."""
    plain = " ".join(text.lower().replace("’", "'").split())
    if _FOLLOW_UP.search(plain) or _BACK.search(plain) or _dangles(plain):
        return _DANGLING
    if _TIMELY.search(plain):
        return _TIME
    if _PERSONAL.search(plain):
        return _ASKER
    return None if _has_topic(text) else _NO_TOPIC


def _dangles(plain: str) -> bool:
    without = _EXPLETIVE.sub("", plain)
    if _DEMONSTRATIVE.search(without):
        return True
    # A pronoun needs a noun to refer to, in a clause before its own.
    return any(not _CLAUSE.search(_after_topic(without[: found.start()])) for found in _PRONOUN.finditer(without))


def _after_topic(before: str) -> str:
    """Return what follows the first content word."""
    found = (match for match in re.finditer(r"[^\W\d_]+", before) if match[0] not in _GRAMMAR)
    first = next(found, None)
    return before[first.end() :] if first else ""


def _has_topic(text: str) -> bool:
    return any(token not in _GRAMMAR for token in words.tokens(text))


_GRAMMAR = words.FUNCTION | words.FILLERS | {"how", "why", "when", "where", "not", "to"}
