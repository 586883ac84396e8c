"""What a text has beside words and numbers: signs, indentation, letter case of identifiers, quoted and pasted text.

Two texts whose signs differ ask different things, whatever their words: `(a or b)`, `10⁵`, `👍`. Only what is known to
be harmless is left out: the marks that end clauses, apostrophes, quotation marks, hyphens between words.
"""

import re
import unicodedata

from msgspec import Struct

_QUOTES = str.maketrans(
    {
        **dict.fromkeys("’ʼ‘´‛＇", "'"), **dict.fromkeys("“”„‟«»＂", '"'), **dict.fromkeys("–—―‐‑−", "-"),
        **dict.fromkeys("？؟;", "?"), **dict.fromkeys("。．।॥", "."), **dict.fromkeys("，、،", ","),
        **dict.fromkeys("！", "!"), **dict.fromkeys("；؛", ";"), **dict.fromkeys("：", ":"), "…": "...",
        **dict.fromkeys("¿¡\u200b\ufeff\u00ad\u2060\ufe0f", None),
    }
)  # fmt: skip
_FACES = "🙂😊😀😃😄🙏"
_SMILE = re.compile(rf"(?:(?<=[.?!])|(?<=thanks)|(?<=thank you))\s*(?:[:;]-?\)|[{_FACES}])+\s*$", re.IGNORECASE)
_SMILE_ENDS = (")", *_FACES)
_BOLD = re.compile(r"\s*(\*\*|__|#+\s)(?!\s)(.*?)(\*\*|__)?\s*$")
_PLAIN = re.compile(r"[A-Za-z0-9\s',]*[?.!]*")  # texts that have no sign at all, if no digit is before an apostrophe
# What may be a sign in a text that looks plain: f'(0), 5!, and at its end the operator ! and the method save!
_MAY_BE_SIGN = re.compile(r"\b[A-Za-z0-9]'(?!\w)|\d!(?!!)")
_NAMES_SIGN = re.compile(
    r"\b(?:operator|symbol|sign|character|mark)\s+\W$|\b(?:method|function|call)\s+\w+!$", re.IGNORECASE
)
_SIGN = re.compile(r"[^\w\s]|[_²³¹⁰-₟¼-¾⅐-↋]")
_BY_NUMBERS = frozenset("$€£¥₹%°")  # units, which are compared with the numbers
_ENDS = frozenset(".?!")
_PAUSES = frozenset(",;:")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_ABBREVIATED = re.compile(r"(?:^|[^\w.])(?:[A-Za-z]\.)*[A-Za-z]$")
_WORD_END = re.compile(r"(?:^|[\s(])[A-Za-z]{2,}$")
_WORD_BEGIN = re.compile(r"[A-Za-z]{2,}(?:$|[\s?.!,;)](?!\w))")
# Not glued to what is before, and no part of a formula: "not (a or b)", "(x + 1)"; and the plural in "movie(s)".
_IN_BRACKETS = re.compile(
    r"(?:(?<=\s)|^)\((?!\W{0,9}(?:not|and|or)\b)(?=[^()]*[A-Za-z]{3})(?:(?!\b(?:[A-Za-z]|and|or|not|plus|minus)\b)[\w\s.,:'\"-])+\)|(?<=\w)\((?:s|es)\)"
)
_NEAR = 40  # characters beside a sign that are looked at
_INSIDE = re.compile(r"\w+|\S")

# A piece of text that is or may be code: letter case counts in it.
_CHUNK = re.compile(r"[^\s,;()\[\]{}\"'`?!]+")
_JOINED = re.compile(r"\w[._/\\:@#=]+\w|^[-/.~@#$\\%+:]+\w|^[a-z]\+\w+$")
_MIXED = re.compile(r"\d[A-Za-z]|[A-Za-z]\d|[a-z][A-Z]")
# Units of data are read without a number too.
_UNIT = re.compile(
    r"(?:\b(?=[kKMGT]i?[bB](?:ps)?\b)|\d\s?)"
    r"((?:[kKMGT]i?[bB](?:it|yte)?(?:ps)?|[mM](?:Wh?|w|V|A|g|m|Hz))(?:/s)?)\b",
    re.ASCII,
)
_AS_UNIT = "unit "  # before the key of a unit
_NO_IDENTIFIER = frozenset({"a", "i"})
# What comes before a letter as such: "the I flag".
_BEFORE_LETTER = frozenset({"the", "flag", "option", "key", "letter", "command", "symbol"})
# What a capital letter follows even where nobody else writes one: vitamin C.
_LETTERED = re.compile(
    r"\b(?:vitamin|hepatitis|plan|type|group|grade|appendix|section|exhibit|schedule)s?\s+$", re.IGNORECASE
)

_QUOTATION = re.compile(r"\"([^\"]+)\"|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
_LINED = re.compile(
    r"\b(?:poems?|haikus?|limericks?|sonnets?|verses?|stanzas?|lyrics|rhymes?|lines?|lists?|csv|tsv|tables?|format|address"
    r"|markdown|render)\b",
    re.IGNORECASE,
)
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_ANNOUNCED = re.compile(r"([?:]|\A[^\n]+)[^\S\n]*\n(?:[^\S\n]*\n)+")
_OPENS_QUOTE = re.compile(r"(?<!\w)'")
_PASTED = re.compile(r":\s+(\S.*)|:\n(.*)", re.DOTALL)
_ASKS = re.compile(
    r"\?\s*$|^\W*(?:how|why|what|when|where|who|which|can|could|is|are|do|does|did|should|will)\b", re.IGNORECASE
)
_AFTER_QUESTION = re.compile(r"[?.]\s+(\S.*)$", re.DOTALL)


class Marks(Struct, frozen=True):
    """What two texts must have in common, whatever their words."""

    text: str  # with plain quotes and dashes, no invisible characters
    signs: tuple[str, ...]  # in order; a bracket with the word inside it
    indents: tuple[int, ...]  # blanks before each line, if any has some, and how many lines have tabs inside
    lines: tuple[int, ...]  # the words of each line, 0 of a blank one, where lines are what is asked about
    about_text: bool  # it asks about words, tone or another property of a text
    identifiers: dict[str, str]  # lower case -> as written, of pieces that may be code
    quoted: tuple[str, ...]  # quotations and code spans
    pasted: str  # the text after a colon, or what follows a question about a text
    is_lower: bool  # no capital in it: letter case tells nothing


def read(text: str, *, about_text: bool) -> Marks:
    """Read the marks of a text; `about_text` says that it asks about words, tone or another property of a text."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES).strip()
    if not about_text and text.endswith(_SMILE_ENDS):
        text = _SMILE.sub("", text)
    bold = _BOLD.fullmatch(text)
    if bold and (bold[3] == bold[1] or bold[1].startswith("#")):
        text = bold[2]
    quoted = (
        tuple("".join(groups) for groups in _QUOTATION.findall(text))
        if '"' in text or "`" in text or "'" in text
        else ()
    )
    return Marks(
        text=text,
        signs=() if _is_plain(text) else tuple(_signs(text)),
        indents=_indents(text) if "\n" in text else (),
        lines=_lines(text) if "\n" in text else (),
        about_text=about_text,
        identifiers=_identifiers(text),
        quoted=quoted,
        pasted=_pasted(text, about_text=about_text),
        is_lower=text == text.lower(),
    )


def _is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None and not (_MAY_BE_SIGN.search(text) or _names_sign(text))


def _names_sign(text: str) -> bool:
    return _NAMES_SIGN.search(text, max(0, len(text) - _NEAR)) is not None


def _signs(text: str) -> list[str]:
    found: list[str] = []
    quotes = 0
    plain_brackets = _plain_brackets(text) if "(" in text else frozenset()
    named = _names_sign(text)
    body = len(text.rstrip(" .?!"))
    for match in _SIGN.finditer(text):
        sign, at = match[0], match.start()
        before = text[at - 1] if at else " "
        after = text[at + 1] if at + 1 < len(text) else " "
        if sign == '"':
            quotes += 1
            harmless = not before.isdigit() or quotes % 2 == 0
        elif at >= body:
            harmless = not ((sign == "!" and before.isdigit() and after != "!") or (named and at == len(text) - 1))
        elif sign in _ENDS or sign in _PAUSES:
            harmless = _ends_clause(text, at, before, after)
        elif sign == "'":
            harmless = not before.isdigit() and (before.isalpha() or after.isalnum() or before in '.?!,"')
            harmless = harmless and not _is_prime(text, at, before, after)
        elif sign == "-":
            harmless = _joins_words(text, at, before, after)
        elif sign in _BY_NUMBERS:
            harmless = before.isdigit() or after.isdigit() or (after == "." and sign != "%") or _digit_near(text, at)
        elif sign == "/":
            harmless = _joins_plain_words(text, at)
        else:
            harmless = sign == "`" or at in plain_brackets
        if not harmless:
            found.append(sign + _inside(text, at) if sign in _OPENING or sign in _CLOSING else sign)
    return found


def _is_prime(text: str, at: int, before: str, after: str) -> bool:
    """Whether an apostrophe stands behind a variable, as in f'(x)."""
    alone = before.isalpha() and not after.isalnum() and not text[at - 2 : at - 1].isalnum()
    return alone and not _OPENS_QUOTE.search(text, 0, at)


def _ends_clause(text: str, at: int, before: str, after: str) -> bool:
    sign = text[at]
    if before.isdigit() and after.isdigit():
        return True  # part of a number
    if sign == "." and after.isdigit() and not before.isalnum():
        return True  # .25
    if sign == "." and (_ABBREVIATED.search(text[max(0, at - 8) : at]) or (before == "." and after.isspace())):
        return True
    if before.isspace() or not (after.isspace() or after in "\"')"):
        return False
    following = text[at + 1 : at + _NEAR].lstrip(" \"')")[:1]
    return sign in _PAUSES or not following.islower() or sign == "."


def _joins_words(text: str, at: int, before: str, after: str) -> bool:
    if before.isspace() and after.isspace():
        left, right = text[max(0, at - _NEAR) : at].rstrip(), text[at : at + _NEAR].lstrip("- ")
        return left[-1:].isalpha() and right[:1].isalpha() and not _single(left, -1)
    if not (before.isalnum() and after.isalnum()) or (before.isdigit() and after.isdigit()):
        return False
    left, right = text[max(0, at - _NEAR) : at], text[at + 1 : at + _NEAR]
    return not (_single(left, -1) and (after.isdigit() or _single(right, 0)))


def _joins_plain_words(text: str, at: int) -> bool:
    """Whether a slash stands between two words, as in "tea/coffee", and not in a path."""
    left, right = _WORD_END.search(text[max(0, at - _NEAR) : at]), _WORD_BEGIN.match(text[at + 1 : at + _NEAR])
    return left is not None and right is not None


def _plain_brackets(text: str) -> frozenset[int]:
    """Return the places of round brackets that enclose words only, as in "WHO (World Health Organization)"."""
    return frozenset(at for match in _IN_BRACKETS.finditer(text) for at in (match.start(), match.end() - 1))


def _single(text: str, end: int) -> bool:
    """Whether a text begins (0) or ends (-1) with a word of one letter."""
    words = text.replace("-", " ").split()
    return bool(words) and len(words[end]) == 1 and words[end].isalpha()


def _digit_near(text: str, at: int) -> bool:
    before, after = text[max(0, at - _NEAR) : at].rstrip(), text[at + 1 : at + _NEAR].lstrip()
    return before[-1:].isdigit() or after[:1].isdigit()


def _inside(text: str, at: int) -> str:
    """Return the word next to a bracket, on its inner side."""
    if text[at] in _OPENING:
        found = _INSIDE.search(text, at + 1)
        return found[0].lower() if found else ""
    words = _INSIDE.findall(text[max(0, at - _NEAR) : at])
    return words[-1].lower() if words else ""


def _indents(text: str) -> tuple[int, ...]:
    lines = [line for line in text.split("\n") if line.strip()]
    indents = tuple(_indent(line) for line in lines)
    tabs = sum("\t" in line.strip() for line in lines)
    return (*indents, tabs) if any(indents) or tabs else ()


def _lines(text: str) -> tuple[int, ...]:
    if not _LINED.search(text):
        return ()
    # A blank line after the question, or after what announces a text, parts no stanzas.
    plain = _BLANK_LINES.sub("\n\n", _ANNOUNCED.sub(r"\1\n", text))
    return tuple(len(line.split()) for line in plain.split("\n"))


def _indent(line: str) -> int:
    """Return how many blanks a line begins with; below 0 if a tab is among them, which counts as four."""
    blank = line[: len(line) - len(line.lstrip())]
    return -len(blank.expandtabs(4)) if "\t" in blank else len(blank)


def _identifiers(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    previous = ""
    for chunk in _CHUNK.findall(text):
        before, previous = previous, chunk
        piece = chunk.rstrip(".:")
        if len(piece) > 1 and piece.isalpha() and piece.islower():  # as nearly all are
            continue
        lower = piece.lower()
        if lower == piece and not (_JOINED.search(piece) or len(piece) == 1):
            if not piece.isalpha():
                found.setdefault(lower, piece)
        elif _JOINED.search(piece) or _MIXED.search(piece) or _is_letter(piece, before):
            found.setdefault(lower, piece)
    for unit in _UNIT.findall(text):
        found[f"{_AS_UNIT}{unit.lower()}"] = unit.replace("k", "K")
    return found


def _is_letter(piece: str, before: str) -> bool:
    return len(piece) == 1 and (piece.lower() not in _NO_IDENTIFIER or before.lower() in _BEFORE_LETTER)


def identifiers_differ(a: Marks, b: Marks) -> tuple[str, str] | None:
    """Return two paths, addresses or dotted names that stand in each other's place."""
    left, right = ([piece for piece in side.identifiers if _JOINED.search(piece)] for side in (a, b))
    if not (left and right) or sorted(left) == sorted(right):
        return None
    return next(((x, y) for x, y in zip(left, right, strict=False) if x != y), None)


def case_differs(a: Marks, b: Marks) -> tuple[str, str] | None:
    """Return an identifier that two texts write in different case, as each writes it."""
    if a.identifiers == b.identifiers:
        return None
    for lower, left in a.identifiers.items():
        right = b.identifiers.get(lower, left)
        if left == right:
            continue
        if lower.startswith(_AS_UNIT):
            if not ((left.islower() or right.islower()) and "b" in lower):  # "64 gb" are GB
                return left, right
        elif len(left) == 1 and left.isalpha():
            if _letters_differ(a, b, left, right):
                return left, right
        elif _is_other(left, right, casual=a.is_lower or b.is_lower):
            return left, right
    return None


def _letters_differ(a: Marks, b: Marks, left: str, right: str) -> bool:
    """Whether a letter is another one in the other case: not where one text has no capital, and the other has more."""
    if not (a.is_lower or b.is_lower):
        return True
    text, letter = (b.text, right) if a.is_lower else (a.text, left)
    alone = sum(each.isupper() for each in text) == text.count(letter)
    return alone and not (letter.isascii() and _LETTERED.search(text, 0, text.index(letter)))


def _is_other(left: str, right: str, *, casual: bool) -> bool:
    if _JOINED.search(left):
        return left[1:] != right[1:] or not left[0].isalpha()
    if left[1:] == right[1:] or left.upper() == right or right.upper() == left:
        return False
    return not (casual and (left.islower() or right.islower()))


def _pasted(text: str, *, about_text: bool) -> str:
    match = _PASTED.search(text)
    if match:
        before, after = text[: match.start()], match[1] or match[2] or ""
        if about_text or not _ASKS.search(after) or _ASKS.search(before) or "\n" in after:
            return after if len(after.split()) > 1 or about_text or _ASKS.search(before) else ""
    match = _AFTER_QUESTION.search(text) if about_text else None
    return match[1] if match else ""


def quotes_differ(a: Marks, b: Marks) -> tuple[str, str] | None:
    """Return what only one of two texts quotes or pastes; words that the other has without quotes are equal."""
    left, right = _final(a.pasted), _final(b.pasted)
    if left != right and (a.pasted or b.pasted):
        return a.pasted, b.pasted
    if len(a.quoted) == len(b.quoted) and a.quoted:
        return next(
            ((x, y) for x, y in zip(a.quoted, b.quoted, strict=True) if not _same_quote(x, y, exact=a.about_text)), None
        )
    for one, other in ((a, b), (b, a)):
        for quote in one.quoted:
            if not re.search(rf"(?<!\w){re.escape(quote.rstrip('.,?! '))}(?!\w)", other.text):
                return (quote, "") if one is a else ("", quote)
    return None


def _same_quote(left: str, right: str, *, exact: bool) -> bool:
    """Whether two quotations are equal, but for a mark at the end of one, if the question is not about a text."""
    left, right = left.removesuffix(","), right.removesuffix(",")
    if left == right:
        return True
    one, other = left.rstrip(".?!"), right.rstrip(".?!")
    return not exact and one == other and bool(one) and one in (left, right)


def _final(pasted: str) -> str:
    """One full stop at the end does not count: "ok." is "ok", and "ok!!!" is not."""
    return re.sub(r"(?<=\w)\.$", "", pasted.strip())
