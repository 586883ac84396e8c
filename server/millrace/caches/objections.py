"""What the asker is told of a guard's objection: never a word of the stored question that is not the asker's too."""

import re

from millrace.caches.guards import Question

# What a guard says before the colon of its own; anything else might be a word of the stored question.
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
        "one of them says no",
        "they say no to different things",
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
    """Return an objection as it may be shown. The guards were given the stored question first, `asked` second."""
    label, _, sides = objection.partition(": ")
    if label not in _LABELS:
        return "the wording differs"
    own = sides.rpartition(" / ")[2]
    said = " ".join((text.lower(), *(word.text for word in asked.words), *asked.numbers, *asked.kinds))
    return f"{label}: {own}" if own and set(_WORD.findall(own)) <= set(_WORD.findall(said)) else label
