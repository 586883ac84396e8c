"""Asks the rules, then the learned part."""

from millrace.caches.reusable import chance, done, elsewhere, learned, live, personal, said
from millrace.caches.reusable.reading import Sentence, sentences
from millrace.caches.reusable.rule import Rule

RULES: tuple[Rule, ...] = chance.RULES + live.RULES + personal.RULES + done.RULES + elsewhere.RULES

_BY_WORD: dict[str, list[int]] = {}
for _number, _rule in enumerate(RULES):
    for _word in _rule.words:
        _BY_WORD.setdefault(_word, []).append(_number)


def reusable(text: str) -> str | None:
    """Return None if the answer to a text may be kept and served to another asker, else the reason why not."""
    parts = sentences(text)
    return said.objection(text, parts) or ruled(parts) or learned.objection(parts)


def ruled(parts: list[Sentence]) -> str | None:
    """Return the reason of the first rule that refuses one of the sentences."""
    asks_how = any(part.general for part in parts)
    for part in parts:
        if part.mood == "wish" and asks_how:  # "I want to close my account. How do I do that?" asks how
            continue
        found = {number for word in part.words for number in _BY_WORD.get(word, ())}
        for number in sorted(found):
            if RULES[number].refuses(part):
                return RULES[number].reason
    return None
