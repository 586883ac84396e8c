"""Where an answer is cut whose model ignores its cap. No I/O."""

from msgspec.structs import replace

from millrace import tokens
from millrace.types import Aside, CallPiece, OwnFields, Sealed
from millrace.types.scored import cut

SLICE = 4096  # characters that are counted at once
WORD = 64  # characters; in a longer word it does not matter that a border adds a token


class OutputCap:
    """Counts what a model sends, as soon as it may be more than `limit` tokens.

    No token is shorter than a byte. So text of fewer bytes than there are tokens left cannot pass the limit, and is not
    counted: an answer far below its cap is never counted at all, and one near it in ever shorter pieces. Whoever adds
    text without asking appends it to `uncounted`, and subtracts its bytes from `free_bytes` while that is not negative.
    """

    __slots__ = ("_encoding", "_left", "_limit", "free_bytes", "is_passed", "uncounted")

    def __init__(self, limit: int, encoding: str = tokens.O200K) -> None:
        self._encoding = encoding
        self._limit = self._left = self.free_bytes = limit  # tokens; tokens; bytes that cannot pass them
        self.uncounted: list[str] = []
        self.is_passed = False  # something did not fit: the answer ends there

    def change(self, limit: int) -> None:
        """Have another limit from now on. What was passed on before stays, and counts."""
        more, self._limit = limit - self._limit, limit
        self._left += more
        self.free_bytes += more

    def fitting_texts(self, texts: list[str]) -> list[str]:
        """Return as much of some texts as there are tokens for."""
        for at, text in enumerate(texts):
            if text.isascii() and (free_bytes := self.free_bytes - len(text)) >= 0:  # as in `fitting`, without a call
                self.free_bytes = free_bytes
                self.uncounted.append(text)
            elif (fitting := self.fitting(text)) != text:
                return [*texts[:at], cut(text, len(fitting))] if fitting else texts[:at]
        return texts

    def fitting_aside(self, aside: Aside) -> Aside | None:
        """Return as much of an aside as there are tokens for; None if that is nothing."""
        if isinstance(aside, OwnFields | Sealed):
            return aside
        if isinstance(aside, CallPiece):
            fitting = self.fitting(aside.name + aside.arguments)[len(aside.name) :]
            return replace(aside, arguments=fitting) if fitting or not self.is_passed else None
        text = self.fitting(aside.text)
        return type(aside)(text) if text else None

    def fitting(self, text: str) -> str:
        """Return as much of a text as there are tokens for, from its beginning."""
        self.free_bytes -= most_bytes(text)
        if self.free_bytes >= 0:
            self.uncounted.append(text)
            return text
        before = "".join(self.uncounted)
        whole = before + text
        end = _border(whole, 0, len(whole))  # the last word may go on with the next text, and is counted then
        self.free_bytes = -1
        if (fitting := self._counted(whole[:end])) == whole[:end]:
            self.uncounted = [whole[end:]]
            self.free_bytes = self._left - most_bytes(whole[end:])
            fitting = whole
        if self.free_bytes < 0 and fitting == whole:
            fitting = whole[:end] + self._counted(whole[end:])
            self.uncounted, self.free_bytes = [], self._left
        fitting = fitting[len(before) :]
        self.is_passed |= len(fitting) < len(text)
        return fitting

    def _counted(self, text: str) -> str:
        """Count a text, and return it up to the last token that is left.

        It takes time in proportion to the tokens that are left, and not to the text.
        """
        encoding = tokens.encoding(self._encoding)
        at = 0
        while at < len(text):
            end = _border(text, at, at + SLICE) if at + SLICE < len(text) else len(text)
            found = encoding.encode_ordinary(text[at:end])
            if len(found) > self._left:
                found, self._left = found[: max(0, self._left)], 0  # it may have been moved below what has come
                return text[:at] + encoding.decode_bytes(found).decode(errors="ignore")  # without half a character
            self._left -= len(found)
            at = end
        return text


def most_bytes(text: str) -> int:
    """Return a number of bytes that its UTF-8 is not longer than, at once."""
    return len(text) if text.isascii() else 4 * len(text)


def _border(text: str, start: int, end: int) -> int:
    """Return where the last word before `end` begins, as no token goes over that border; `end` if it is too long."""
    at = text.rfind(" ", max(start + 1, end - WORD), end)
    return end if at < 0 else at
