"""Where an answer is cut whose model ignores its cap. No I/O."""

from millrace import tokens

SLICE = 4096  # characters that are counted at once


class OutputCap:
    """Counts what a model sends, as soon as it may be more than `limit` tokens.

    No token is shorter than a byte. So text of fewer bytes than there are tokens left cannot pass the limit, and is not
    counted: an answer far below its cap is never counted at all, and one near it in ever shorter pieces. Whoever adds
    text without asking appends it to `uncounted`, and subtracts its bytes from `free_bytes` while that is not negative.
    """

    __slots__ = ("_left", "free_bytes", "uncounted")

    def __init__(self, limit: int) -> None:
        self._left = self.free_bytes = limit  # tokens; bytes that cannot pass them
        self.uncounted: list[str] = []

    def fitting(self, text: str) -> str:
        """Return as much of a text as there are tokens for, from its beginning."""
        self.free_bytes -= most_bytes(text)
        if self.free_bytes >= 0:
            self.uncounted.append(text)
            return text
        before = "".join(self.uncounted)
        fitting = self._counted(before + text)[len(before) :]
        self.uncounted.clear()
        self.free_bytes = self._left
        return fitting

    def _counted(self, text: str) -> str:
        """Count a text, and return it up to the last token that is left.

        It takes time in proportion to the tokens that are left, and not to the text.
        """
        encoding = tokens.encoding()
        for at in range(0, len(text), SLICE):
            found = encoding.encode_ordinary(text[at : at + SLICE])
            if len(found) > self._left:
                found, self._left = found[: self._left], 0
                return text[:at] + encoding.decode_bytes(found).decode(errors="ignore")  # without half a character
            self._left -= len(found)
        return text


def most_bytes(text: str) -> int:
    """Return a number of bytes that its UTF-8 is not longer than, at once."""
    return len(text) if text.isascii() else 4 * len(text)
