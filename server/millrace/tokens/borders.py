"""Where a long text can be cut so that its pieces have as many tokens as the whole.

Both encodings split a text by an expression before they look for tokens. No match of it goes on from a letter to white
space, a digit or one of these signs, nor from anything but white space to a space. So a token ends there in any case.
"""

import re

WINDOW = 1024  # characters before the end of a piece, in which a border is looked for

_BORDER = re.compile(r"[^\W\d_](?=[\t\r\n0-9.,;:!?()\[\]{}<>\"/\\|=+*&^%$#@~`_。、，！？；：「」（）-])|\S(?= )")


def border(text: str, start: int, end: int) -> int:
    """Return where to cut between `start` and `end`, as late as possible; `end` if every cut may add a token."""
    at = end
    for found in _BORDER.finditer(text, max(start, end - WINDOW), min(end + 1, len(text))):
        after = found.end()
        if text[after] == " " or text[after - 1].isalpha():  # the expression takes some numerals for letters
            at = after
    return at
