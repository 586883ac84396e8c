"""How a guard's objection is shown to the client: no word of the stored question unless the client's has it too.

A scope may be shared by several users of one tenant, so a stored question may be another user's.
"""

import re

from millrace.caches.guards import Question

# Labels that guards write before the colon. Any other text there may come from the stored question.
_LABELS = frozenset(
    {
        "wording differs in code or another language than English",
        "nothing to compare",
        "quoted words differ",
        "question words differ",
        "can, should, must or will differ",
        "tenses differ",
        "I and you differ",
        "numbers differ",
        "only one is negated",
        "negations differ",
        "opposites",
        "names differ",
        "words differ",
        "only one says",
        "and, or differ",
        "order differs",
    }
)
_WORD = re.compile(r"\w+")


def shown_objection(objection: str, asked: Question, text: str) -> str:
    """Return the part of an objection that may be shown; `agree` was given the stored question first, `asked` second.

    The text after the colon is "stored / asked" or one word of either; only the last side is shown, and only if all of
    its words stand in the client's question.
    """
    label, _, sides = objection.partition(": ")
    if label not in _LABELS:
        return "the wording differs"
    shown = sides.rpartition(" / ")[2]
    allowed = " ".join((text.lower(), *(word.text for word in asked.words), *asked.numbers, *asked.kinds))
    return f"{label}: {shown}" if shown and set(_WORD.findall(shown)) <= set(_WORD.findall(allowed)) else label
