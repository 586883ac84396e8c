"""Asks the rules, then the learned part."""

import re

from millrace.caches.reusable import chance, done, elsewhere, learned, live, personal, said
from millrace.caches.reusable.reading import Sentence, sentences
from millrace.caches.reusable.rule import CHANCE, TIME, Rule

RULES: tuple[Rule, ...] = chance.RULES + live.RULES + personal.RULES + done.RULES + elsewhere.RULES

_BY_WORD: dict[str, list[int]] = {}
for _number, _rule in enumerate(RULES):
    for _word in _rule.words:
        _BY_WORD.setdefault(_word, []).append(_number)


def reusable(text: str) -> str | None:
    """Return None if the answer to a text may be kept and served to another asker, else the reason why not."""
    parts = sentences(text)
    return said.objection(text, parts) or ruled(parts) or learned.objection(parts)


# What is long past changes no more: "the score of the 1966 final", "the weather in the ice age".
_PAST = re.compile(
    r"\b(?:in|since|of|during|from|by|before|after)(?: the)?(?: (?:year|early|late|mid|winter of|summer of))?"
    r" (?:1\d\d\d|20[01]\d)(?:s|\b)(?! (?:us|usd|dollars?|euros?|eur|pounds?|gbp|yen|jpy|rupees?|inr|pesos?|shares?"
    r"|btc|bitcoins?|ounces?|grams?)\b)|\b(?:ice age|middle ages|medieval|ancient|prehistoric|\w+th century"
    r"|(?:(?:first|second) world war|world war (?:i|ii|1|2|one|two))\b)"
)
# What is explained in general: "what is a tongue twister", "the difference between news and opinion".
_EXPLAINED = re.compile(
    r"^(?:what is |what are |explain |tell me )?(?:the )?(?:main )?(?:differences?|distinction) between\b"
    r"|^what does (?:the (?:word|term|phrase) )?(?:(?!my|the|this|latest|current|today|tonight|now)[\w-]+ ){1,3}mean$"
    r"|^what (?:is|are) an? (?!good|new|random|fun|cool|funny|interesting|nice|lucky|current|great)[\w-]+"
    r"(?: (?!worth|at|now|doing|trading|going|cost|like|today|of|for|to|in|on)[\w-]+)?$"
)
_SETTLED = ((_PAST, frozenset({TIME})), (_EXPLAINED, frozenset({TIME, CHANCE})))


def ruled(parts: list[Sentence]) -> str | None:
    """Return the reason of the first rule that refuses one of the sentences."""
    asks_how = any(part.general for part in parts)
    for part in parts:
        if part.mood == "wish" and asks_how:  # "I want to close my account. How do I do that?" asks how
            continue
        found = {number for word in part.words for number in _BY_WORD.get(word, ())}
        settled = [reasons for pattern, reasons in _SETTLED if found and pattern.search(part.rest)]
        for number in sorted(found):
            if any(RULES[number].reason in reasons for reasons in settled):
                continue
            if RULES[number].refuses(part):
                return RULES[number].reason
    return None
