"""Names, and rare words that may be names: written in lower case, a city looks like any other word."""

from millrace.caches.guards.words import Word, number_differs


def may_be_name(word: Word) -> bool:
    """Whether a word is written as a name, or is missing from the table of common words."""
    return word.named or not word.meanings


def same(left: Word, right: Word) -> bool:
    """Whether two names are equal. `Windows` is not `window`, `Jaguar` is not `jaguar`; `PDFs` is `PDF`."""
    if left.named != right.named:
        return left.text == right.text and not (left.plain or right.plain)
    return number_differs(left.text, right.text) is not None
