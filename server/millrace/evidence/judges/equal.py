"""A judge that sees whether two answers are written alike."""

import asyncio

from millrace import tokens
from millrace.evidence.judges.plain import normalised
from millrace.types import Says


class EqualJudge:
    """Says "same" of answers that differ in case, white space, emphasis or punctuation at the ends alone."""

    name = "equal"

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return whether both are written alike; it cannot say that two answers differ."""
        if earlier == fresh:
            return Says.SAME
        if len(earlier) + len(fresh) <= tokens.LONG:
            return _says(earlier, fresh)
        return await asyncio.to_thread(_says, earlier, fresh)


def _says(earlier: str, fresh: str) -> Says:
    one = normalised(earlier)
    return Says.SAME if one and one == normalised(fresh) else Says.UNSURE
