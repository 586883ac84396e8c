"""Names, and words so rare that they may be names: in lower case a city looks like any other word."""

from millrace.caches.guards.words import Word, number_differs


def may_be_name(word: Word) -> bool:
    """Whether a word is written as a name, or is none that the table of common words knows."""
    return word.named or not word.meanings


def same(left: Word, right: Word) -> bool:
    """Whether two names are one. `Windows` is not `window`, nor a Jaguar a jaguar; `PDFs` are `PDF`."""
    if left.named != right.named:
        return left.text == right.text and not (left.plain or right.plain)
    return number_differs(left.text, right.text) is not None
