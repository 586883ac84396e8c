"""One page of Markdown as HTML, and as what a search looks through. Raw HTML in it is shown as text."""

import re
from collections.abc import Callable, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from msgspec import Struct

_PUNCTUATION = re.compile(r"[^\w\- ]")
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")


class Section(Struct, frozen=True):
    """What stands below a heading, up to the next one."""

    level: int
    anchor: str
    heading: str
    text: str


class Rendered(Struct, frozen=True):
    """A page: its HTML, and its sections, of which the first is that of its title."""

    html: str
    sections: tuple[Section, ...]

    @property
    def title(self) -> str:
        """The first heading."""
        return self.sections[0].heading


def rendered(source: str, address: Callable[[str], str | None]) -> Rendered:
    """Return a page that begins with a heading.

    `address` says where a link of the source leads to, or None: then its words stand without a link.
    """
    tokens = _PARSER.parse(source)
    sections = _sections(tokens)
    for token in tokens:
        for child in token.children or ():
            _readdress(child, address)
        _without_style(token)
    html: str = _PARSER.renderer.render(_framed(tokens), _PARSER.options, {})
    return Rendered(html, sections)


def anchor_of(heading: str, taken: Sequence[str] = ()) -> str:
    """Return the anchor that code hosts give a heading."""
    plain = _PUNCTUATION.sub("", heading.strip().lower()).replace(" ", "-")
    anchor, count = plain, 0
    while anchor in taken:
        count += 1
        anchor = f"{plain}-{count}"
    return anchor


def _sections(tokens: Sequence[Token]) -> tuple[Section, ...]:
    """Return the sections; each heading gets its anchor."""
    found: list[Section] = []
    anchors: list[str] = []
    level, heading, text = 0, "", list[str]()
    for before, token in zip((None, *tokens), tokens, strict=False):
        if before is not None and before.type == "heading_open":
            if anchors:
                found.append(Section(level, anchors[-1], heading, " ".join(text)))
            level, heading, text = int(before.tag[1:]), _words(token), []
            anchors.append(anchor_of(heading, anchors))
            before.attrSet("id", anchors[-1])
        elif token.type == "inline" or token.content:
            text.append(" ".join(_words(token).split()))
    return (*found, Section(level, anchors[-1], heading, " ".join(text)))


def _words(token: Token) -> str:
    if token.children is None:
        return token.content
    return "".join(" " if child.type.endswith("break") else child.content for child in token.children)


def _readdress(token: Token, address: Callable[[str], str | None]) -> None:
    name = {"link_open": "href", "image": "src"}.get(token.type)
    if name is None:
        return
    target = address(str(token.attrGet(name)))
    if target is not None:
        token.attrSet(name, target)
    else:
        del token.attrs[name]


def _without_style(token: Token) -> None:
    """Say with a class how a cell of a table is aligned: the page allows no inline style."""
    style = token.attrs.pop("style", None)
    if style is not None:
        token.attrSet("class", str(style).removeprefix("text-align:"))


def _framed(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens with a frame around each table and each block of code, which may be wider than the page."""
    framed: list[Token] = []
    for token in tokens:
        kind = "code" if token.type in {"fence", "code_block"} else token.type.removesuffix("_open")
        if kind in {"code", "table"}:
            framed.append(Token("frame_open", "div", 1, attrs={"class": kind}, block=True))
        framed.append(token)
        if kind == "code" or token.type == "table_close":
            framed.append(Token("frame_close", "div", -1, block=True))
    return framed
