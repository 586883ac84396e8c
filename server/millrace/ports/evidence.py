"""What judges answers, and keeps what was judged."""

from collections.abc import Sequence
from typing import Protocol

from millrace.types import Answered, Change, Feedback, Judged, Lever, Request, Says, Strategy


class AskAgain(Protocol):
    """Has a request answered once more, at the operator's cost."""

    async def __call__(self, request: Request, strategy: Strategy | None = None) -> str | None:
        """Return the text of a new answer from a model, by another strategy if one is given.

        None if there is no money for it, or no whole answer.
        """
        ...


class AnswerJudge(Protocol):
    """Tells whether two answers to one question say the same."""

    name: str

    async def says(self, question: str, earlier: str, fresh: str) -> Says:
        """Return whether either answer does in place of the other. It may take long, raise, or never return."""
        ...


class Student(Protocol):
    """Learns from what was judged."""

    def learn(self, judged: Sequence[Judged]) -> None:
        """Learn from it. Called on another thread, once it is on disk; after a start, with what is kept."""
        ...


class EvidenceStore(Protocol):
    """Keeps what was judged, and how the levers were steered by it."""

    async def add(self, judged: Sequence[Judged], changes: Sequence[Change] = ()) -> None:
        """Store all of it or nothing; return once it is on disk. A sample that is stored already is left as it is.

        Raises `TimeoutError` if that takes too long; then nothing is stored.
        """
        ...

    async def judged(self, lever: Lever | None, since: float, most: int, tenant: str | None = None) -> list[Judged]:
        """Return what was judged last, of samples taken since then (Unix seconds), the oldest first."""
        ...

    async def steered(self) -> list[Change]:
        """Return the changes that are kept, the oldest first; the last one of a scope says how it is steered."""
        ...


class EndedRequests(Protocol):
    """How requests were answered, from the ledger."""

    async def answered(self, tenant: str, response_id: str) -> Answered | None:
        """Return where an answer came from and went; None if it has not ended. Raises `TimeoutError` if late."""
        ...


class FeedbackStore(Protocol):
    """Keeps what people say of responses."""

    async def has_feedback(self, tenant: str, response_id: str, key_id: str) -> bool:
        """Whether the key has said something of the response. Raises `TimeoutError` if late."""
        ...

    async def add_feedback(self, feedback: Feedback) -> bool:
        """Store it on disk; False if the key has said something already. Raises `TimeoutError` if nothing is stored."""
        ...
