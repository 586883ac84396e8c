"""What a listener may see, in any dialect: no text that may be taken back, no call before the answer is accepted."""

from collections.abc import Callable

from millrace.funnel.facts import Committed, Ended, Fact, Metered, Revised, Routed, Started, grouped
from millrace.types import Aside, CallPiece, Delivery, OwnFields, Refusal, Sealed, Thought, joined

ShowText = Callable[[list[str]], None]
ShowAside = Callable[[Aside], None]


class Visibility:
    """Passes on what a listener may see, in order, and holds back the rest until it is final or taken back.

    A `speculative` listener understands a revise and sees text at once. All others see it after the commit at the
    earliest, so that no character they have seen is taken back (PROTOCOL.md, What always holds, 9). Tool calls are held
    back from every listener until the answer is accepted, since a client acts on them and cannot undo that (Server to
    client). So is what the model thought after a call, in its place. If the response ends without an accepted answer,
    what is still held back is dropped, and the terminal event does not have it either.

    Who shows it is told at each fact, and not kept: it knows this, and a circle would wait for the collector.
    """

    __slots__ = (
        "_delivery",
        "_has_calls",
        "_held_back",
        "_is_final",
        "_until_accepted",
        "passes_text",
    )

    def __init__(self, delivery: Delivery, *, speculative: bool = False) -> None:
        self._delivery = delivery
        self.passes_text = speculative and delivery.shows(committed=False)  # text is to be shown at once
        self._held_back: list[str | Aside] = []
        self._until_accepted: list[Aside] = []
        self._has_calls = False  # among these
        self._is_final = False  # nothing is taken back any more

    def hold_back(self, deltas: list[str]) -> None:
        """Hold back the text deltas of one read: `passes_text` is false."""
        self._held_back += deltas

    def fact(self, fact: Fact, show_text: ShowText, show_aside: ShowAside) -> None:
        """Handle a fact that is an aside or decides about visibility. Others are ignored."""
        match fact:
            case Started() | Routed() | Metered():
                pass
            case Committed():
                self._is_final = True
                if self._delivery.shows(committed=True):
                    self._release(show_text, show_aside)
            case Ended() if fact.accepted:
                self._release(show_text, show_aside)
                for aside in self._until_accepted:
                    show_aside(aside)
            case Revised() | Ended():
                self._drop()
            case _:
                self._aside(fact, show_aside)

    def _aside(self, aside: Aside, show_aside: ShowAside) -> None:
        """Show an aside, or hold it back."""
        match aside:
            case Thought() | Sealed() if self._has_calls:  # stays behind them
                self._until_accepted.append(aside)
            case Sealed() if self.passes_text and not (aside.is_thought or self._is_final):  # could not be taken back
                self._until_accepted.append(aside)
            case Thought() | Refusal() | Sealed() if self.passes_text:
                show_aside(aside)
            case Thought() | Refusal() | Sealed():
                self._held_back.append(aside)
            case CallPiece() | OwnFields():
                self._has_calls = self._has_calls or isinstance(aside, CallPiece)
                self._until_accepted.append(aside)

    def _drop(self) -> None:
        """Drop what is held back."""
        self._held_back.clear()
        self._until_accepted.clear()
        self._has_calls = False

    def _release(self, show_text: ShowText, show_aside: ShowAside) -> None:
        """Pass on what was held back, adjacent text as one delta, and from now on everything at once."""
        self.passes_text = True
        if not self._held_back:
            return
        held_back, self._held_back = self._held_back, []
        for group in grouped(held_back):
            if isinstance(group, list):
                show_text([joined(group)])
            else:
                show_aside(group)


class _Over(Visibility):
    """What there is to see of a response that has ended: nothing more."""

    __slots__ = ()

    def hold_back(self, deltas: list[str]) -> None:
        """Keep nothing: all that have ended share it."""

    def fact(self, fact: Fact, show_text: ShowText, show_aside: ShowAside) -> None:
        """Show nothing."""


OVER = _Over(Delivery.FINAL)
