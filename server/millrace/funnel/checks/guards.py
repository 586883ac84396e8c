"""Guards: what no answer may hold, as expressions that are searched in the text as it grows.

Each decides within `WIDEST` characters from where its match begins. So whoever holds back so much of the end of a text
never shows a character of a match; less is held back in fact, only what may still become a match.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Self

from msgspec import Struct

from millrace.funnel.checks.growing import begun, looks_elsewhere, scoped, sure, widest

WIDEST = 64  # characters of a match at most
CONTEXT = 4  # characters before a text that the expressions below look at
_KEY = r"[A-Za-z0-9_-]"
_ESCAPE = r"(?<=\\[bfnrt])"  # white space in JSON and in code, such as \n: its letter begins no word
_START = rf"(?:(?<![A-Za-z0-9])|{_ESCAPE})"

# Keys and passwords of well-known forms. A match is long enough to tell; that the key goes on does not matter.
_SECRETS = (
    rf"{_START}sk-(?={_KEY}{{0,60}}?[0-9]){_KEY}{{20}}",  # with a digit: "sk-" may begin words with hyphens
    _START + r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16}",
    _START + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    _START + r"gh[pousr]_[A-Za-z0-9]{30}",
    _START + r"github_pat_[A-Za-z0-9_]{22}",
    _START + r"glpat-[A-Za-z0-9_-]{20}",
    _START + r"xox[abeoprs]-[A-Za-z0-9-]{10}",
    _START + r"AIza[A-Za-z0-9_-]{35}",
    _START + r"hf_[A-Za-z0-9]{30}",
    _START + r"npm_[A-Za-z0-9]{36}",
    rf"{_START}eyJ{_KEY}{{10,56}}\.eyJ{_KEY}",  # a JSON Web Token: two objects in base64, RFC 7519
    rf"{_START}eyJ(?:hbGciOi|0eXAiOi|raWQiOi){_KEY}{{54}}",  # one with a long header
    r"-----BEGIN (?:[A-Z]{2,9} ){0,2}PRIVATE KEY(?: BLOCK)?-----",  # RFC 7468; the key follows
)
_CARDS = (
    r"(?<![0-9+])(?<![0-9]\.)"
    r"(?:[2-6][0-9]{12,18}|[2-6][0-9]{3}(?:[ .\u00a0-][0-9]{4}){3}|3[47][0-9]{2}[ .\u00a0-][0-9]{6}[ .\u00a0-][0-9]{5})"
    r"(?![0-9])"
)
_ADDRESSES = r"(?<![A-Za-z0-9_%+-])[A-Za-z0-9_%+-][A-Za-z0-9._%+-]{0,38}@[A-Za-z0-9-]{1,20}\.[A-Za-z]{2}"


class BadPatternError(ValueError):
    """A pattern of the operator's that cannot be a guard: why, and what to write."""


class Hit(Struct, frozen=True):
    """A match: where it begins, and the name of its guard."""

    at: int
    guard: str


class Guard:
    """One kind of what no answer may hold."""

    def __init__(self, name: str, patterns: Sequence[str], holds: Callable[[str], bool] | None = None) -> None:
        """`holds` tells whether a match counts, by its text."""
        self.name = name
        self.pattern = "|".join(f"(?:{pattern})" for pattern in patterns)
        self._whole = re.compile(self.pattern)
        self._sure = sure(self.pattern)
        self._holds = holds

    def find(self, text: str, at: int, *, is_whole: bool) -> Hit | None:
        """Return the first match that begins at `at` or later; if the text is not whole, that no more text undoes."""
        expression = self._whole if is_whole else self._sure
        while (match := expression.search(text, at)) is not None:
            if self._holds is None or self._holds(match[0]):
                return Hit(match.start(), self.name)
            at = match.start() + 1
        return None


class Guards:
    """All guards that are on. They are searched for as one expression, of which text seldom has anything."""

    def __init__(self, guards: Iterable[Guard]) -> None:
        self.guards = tuple(guards)
        self._pattern = "|".join(f"(?:{guard.pattern})" for guard in self.guards)
        self._begun = begun(self._pattern)
        self._sure = sure(self._pattern)
        self._any = re.compile(f"(?:{self._sure.pattern})|(?:{self._begun.pattern})")

    @classmethod
    def of(
        cls, *, secrets: bool, cards: bool, addresses: bool, patterns: Sequence[str], words: Sequence[str]
    ) -> Self | None:
        """Return the guards of a configuration; None where none is on. Raises `BadPatternError`."""
        guards = [Guard("secrets", _SECRETS)] if secrets else []
        guards += [Guard("cards", (_CARDS,), is_card)] if cards else []
        guards += [Guard("addresses", (_ADDRESSES,))] if addresses else []
        guards += [Guard("patterns", [usable(pattern) for pattern in patterns])] if patterns else []
        guards += [Guard("words", [word_pattern(word) for word in words])] if words else []
        return cls(guards) if guards else None

    @cached_property
    def signature(self) -> str:
        """What tells these guards from others."""
        return "\n".join(f"{guard.name} {guard.pattern}" for guard in self.guards)

    def is_clean(self, text: str, at: int) -> bool:
        """Whether nothing that begins at `at` or later is a match, or may become one. Runs for every read."""
        if len(text) - at <= WIDEST:
            return self._any.search(text, at) is None
        return self._sure.search(text, at) is None and self.open_from(text, at) == len(text)

    def find(self, text: str, at: int, *, is_whole: bool) -> Hit | None:
        """Return the first match of any guard, as `Guard.find`."""
        hits = [hit for guard in self.guards if (hit := guard.find(text, at, is_whole=is_whole)) is not None]
        return min(hits, key=lambda hit: hit.at, default=None)

    def open_from(self, text: str, at: int) -> int:
        """Return from where on the text may still become a match; its length where nothing may.

        What began further back than a match is wide is decided, so a long text is not searched as a whole.
        """
        match = self._begun.search(text, max(at, len(text) - WIDEST))
        return len(text) if match is None else match.start()


def usable(pattern: str) -> str:
    """Return a pattern of the operator's. Raises `BadPatternError` if it cannot be searched in a stream."""
    try:
        width = widest(pattern)
        if looks_elsewhere(pattern):
            raise BadPatternError(r"looks ahead or behind, or refers to a group; of these a guard has only \b")
        if re.search(pattern, "") is not None:
            raise BadPatternError("matches the empty text; let it begin with something that must be there")
        written = scoped(pattern)
        Guards([Guard("patterns", (written,))])
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPatternError(f"is no regular expression: {error}") from None
    if width is None or width > WIDEST:
        most = "any number of" if width is None else str(width)
        raise BadPatternError(
            f"may match {most} characters, and a guard holds back {WIDEST} at most; bound its repeats: {{1,20}}, not +"
        )
    return written


def word_pattern(word: str) -> str:
    """Return the pattern of a word or of some, in any case, and not within other words. Raises `BadPatternError`."""
    parts = word.split()
    if not parts:
        raise BadPatternError("is empty; write a word, or some")
    pattern = rf"(?i:(?:(?<!\w)|{_ESCAPE})" + r"\s{1,3}".join(map(re.escape, parts)) + r"(?!\w))"
    if (widest(pattern) or 0) > WIDEST:
        raise BadPatternError(f"is too long: a guard holds back {WIDEST} characters at most")
    return pattern


def is_card(text: str) -> bool:
    """Whether the digits of a text are a card's number: the last one checks the others (Luhn 1954, ISO/IEC 7812-1)."""
    digits = [int(each) for each in text if each.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len({*digits}) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
