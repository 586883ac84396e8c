"""Text without what does not matter to its meaning, and its words."""

import re
import unicodedata

_WIDE = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}  # full-width forms of ASCII
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("’ʼ‘´`", "'"),
        **dict.fromkeys("“”„‟«»", '"'),
        **dict.fromkeys("–—―‐‑−", "-"),
        **dict.fromkeys("\u200b\ufeff\u00ad\u2060", None),
    }
    | _WIDE
    | {ord("。"): ".", ord("、"): ","}
)
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]+?)(?<=\S)\1(?![\w*])")
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}|[-*+•])[ \t]+", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*\d{1,2}[.)][ \t]+", re.MULTILINE)
_ENDS = " \t\n.,;:?\"'…"
_CJK = "\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:'[^\W\d_{_CJK}]+)?")
LONGEST = 4000  # characters of an answer that is read: more takes over a millisecond


def plain(text: str) -> str:
    """Return text without emphasis and marks of lines, in one form of quotes, dashes and blanks. Letter case stays."""
    return _LINE_MARK.sub("", _EMPHASIS.sub(r"\2", unicodedata.normalize("NFC", text).translate(_SIGNS))).strip()


def without_numbering(text: str) -> str:
    """Return text without the numbers of a numbered list."""
    return _NUMBERED.sub("", text)


def normalised(text: str) -> str:
    """Return what two equal answers have in common. Of text with code, letter case and indentation are part of it."""
    if "`" in text or "\n " in text or "\n\t" in text:
        return "\n".join(map(str.rstrip, unicodedata.normalize("NFC", text).strip().splitlines()))
    folded = " ".join(plain(text).casefold().split()).strip(_ENDS)
    # "5!" is not 5.
    return folded.rstrip("!" + _ENDS) if not folded.rstrip("!")[-1:].isdigit() else folded


def words(text: str) -> list[str]:
    """Return the words of plain, folded text in order; of Chinese, Japanese and Korean the characters."""
    return _WORD.findall(text.replace("'s", ""))


def is_cjk(word: str) -> bool:
    """Whether it is a character of Chinese, Japanese or Korean."""
    return word >= "\u3040"
