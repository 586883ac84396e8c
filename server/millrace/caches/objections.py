"""How a guard's objection is shown to the client: no word of the stored question unless the client's has it too.

A scope may be shared by several users of one tenant, so a stored question may be another user's.
"""

import re

from millrace.caches.guards import RULES, Objection, Question

_WORD = re.compile(r"\w+")


def shown_objection(objection: Objection, asked: Question, text: str) -> str:
    """Return the part of an objection that may be shown; `judge` was given the stored question first, `asked` second.

    That is the reason of its rule, and the words of the client's side if all of them stand in the client's question.
    """
    reason, said = RULES[objection.rule].reason, objection.said[1]
    allowed = " ".join((text.lower(), *(word.text for word in asked.words), *asked.numbers))
    shown = set(_WORD.findall(said.lower()))
    return f"{reason}: {said}" if shown and shown <= set(_WORD.findall(allowed)) else reason
