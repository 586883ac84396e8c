"""The text of an answer and its question, as checks read them. What takes time is read when it is first asked for."""

from functools import cached_property

from millrace.evidence.judges.code import parted
from millrace.funnel.checks.equations import Recheck, recheck
from millrace.funnel.checks.numerals import Result, asked_for, result_of

LONGEST = 65_536  # characters of an answer whose blocks of code are told from the rest
READ = 4000  # characters of the beginning and of the end of an answer, and of its question, that checks read


class AnswerText:
    """One answer to one question."""

    def __init__(self, text: str, question: str) -> None:
        self._text = text
        self._question = question[-READ:]
        self._parts: tuple[str, list[tuple[str, str]]] | None = None

    @property
    def parts(self) -> tuple[str, list[tuple[str, str]]]:
        """The answer without its code blocks, and these: language and code. Of a very long answer no block is known."""
        parts = self._parts
        if parts is None:
            parts = self._parts = parted(self._text) if len(self._text) <= LONGEST else (self._text, [])
        return parts

    @property
    def prose(self) -> str:
        """The answer without its code blocks; of a long one its beginning and its end."""
        prose = self.parts[0]
        return prose if len(prose) <= 2 * READ else f"{prose[:READ]}\n\n{prose[-READ:]}"

    @cached_property
    def equations(self) -> Recheck:
        """Its equations, recomputed."""
        return recheck(self.prose, self._question)

    @cached_property
    def asked(self) -> str | None:
        """The thing whose number is asked for; empty if it is not named; None if no number is asked for."""
        return asked_for(self._question)

    @cached_property
    def result(self) -> Result | None:
        """The number that it ends with."""
        return result_of(self.prose)
