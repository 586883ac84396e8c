"""What one listener may not see yet, in any dialect: words that might be taken back, calls before they stand."""

from collections.abc import Callable

from millrace.funnel.response_log import Committed, Ended, Fact, Revised, grouped
from millrace.types import Aside, CallPiece, Delivery, Refusal, Thought


class Visibility:
    """Passes on what a listener may see, in order, and holds back the rest until it stands or is taken back.

    A `speculative` listener can take words back, and sees them at once. Tool calls are for acting on, so everyone sees
    them only once the answer is accepted.
    """

    def __init__(
        self,
        show_text: Callable[[list[str]], None],
        show_aside: Callable[[Aside], None],
        delivery: Delivery,
        *,
        speculative: bool = False,
    ) -> None:
        self._show_text = show_text
        self._show_aside = show_aside
        self._delivery = delivery
        self._flowing = speculative and delivery.shows(committed=False)  # words go out as they come
        self._held: list[str | Aside] = []
        self._calls: list[CallPiece] = []

    def text(self, deltas: list[str]) -> None:
        """Take the words of one read."""
        if self._flowing:
            self._show_text(deltas)
        else:
            self._held += deltas

    def fact(self, fact: Fact) -> None:
        """Take a fact; those that are neither words nor decide about them are let pass."""
        match fact:
            case Thought() | Refusal() if self._flowing:
                self._show_aside(fact)
            case Thought() | Refusal():
                self._held.append(fact)
            case CallPiece():
                self._calls.append(fact)
            case Revised():
                self._held.clear()
                self._calls.clear()
            case Committed() if self._delivery.shows(committed=True):
                self._release()
            case Ended() if fact.accepted:
                self._release()
                for piece in self._calls:
                    self._show_aside(piece)
            case Ended():
                self._held.clear()
                self._calls.clear()

    def _release(self) -> None:
        """Show what was held back: words that waited are one delta."""
        held, self._held = self._held, []
        self._flowing = True
        for piece in grouped(held):
            if isinstance(piece, list):
                self._show_text(["".join(piece)])
            else:
                self._show_aside(piece)
