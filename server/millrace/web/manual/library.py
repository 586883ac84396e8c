"""All pages: where they lie, how they are called, in which order they stand, and what a search looks through."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from html import escape
from pathlib import Path
from string import Template

import msgspec
from msgspec import Struct

from millrace.web.manual.markdown import Rendered, rendered

PACKAGE = Path(__file__).parents[2]
PACKAGED = PACKAGE / "manual"  # in a wheel
ROOT = PACKAGED if PACKAGED.is_dir() else PACKAGE.parents[1]  # or a checkout
FIRST = "docs/README.md"  # its headings and lists are the navigation
BESIDE = ("README.md", "PROTOCOL.md", "ARCHITECTURE.md", "CHANGELOG.md", "static/README.md")
NAMED = {FIRST: "", "static/README.md": "millrace.js"}  # others are called as their files
SEARCH = "search.json"

_TEMPLATE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
_HTML = "text/html; charset=utf-8"
_TYPES = {
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".yml": "text/plain; charset=utf-8",
}


class Document(Struct, frozen=True):
    """What is sent for a name below /docs/."""

    body: bytes
    media_type: str


class Listed(Struct, frozen=True):
    """A page in the navigation."""

    group: str  # the heading that it stands under
    name: str
    title: str


class Found(msgspec.Struct, array_like=True):
    """What a search may find: a section of a page."""

    page: str  # its name below /docs/
    title: str
    anchor: str
    heading: str
    text: str


@cache
def documents() -> Mapping[str, Document]:
    """Return all that is served, by its name below /docs/. It takes some tenths of a second, once."""
    files = {name_of(path): path for path in _pages()}
    texts = {name: (ROOT / path).read_text("utf-8") for name, path in files.items()}
    pages = {name: rendered(text, partial(_address, files[name])) for name, text in texts.items()}
    listed = [*_listed(texts[""])]
    index = [
        Found(name, page.title, section.anchor, section.heading, section.text)
        for name, page in pages.items()
        for section in page.sections
    ]
    figures = (file for file in sorted((ROOT / "docs").rglob("*")) if file.suffix in _TYPES)
    return {
        **{name: Document(_html(name, page, listed).encode(), _HTML) for name, page in pages.items()},
        **{_figure(file): Document(file.read_bytes(), _TYPES[file.suffix]) for file in figures},
        SEARCH: Document(msgspec.json.encode(index), "application/json"),
    }


def name_of(path: str) -> str:
    """Return the name below /docs/ of a file of the repository."""
    return NAMED[path] if path in NAMED else posixpath.basename(path).removesuffix(".md").lower()


@cache
def _pages() -> tuple[str, ...]:
    """Return the files of the pages, from the top of the repository."""
    return (*(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))), *BESIDE)


def _figure(file: Path) -> str:
    return file.relative_to(ROOT / "docs").as_posix()


def _address(page: str, link: str) -> str | None:
    """Return where a link of this file leads to. Pages lie side by side, so that any path before /docs/ will do."""
    if link.startswith(("http://", "https://", "#")):
        return link
    target, mark, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    if path in _pages():
        return f"{name_of(path) or './'}{mark}{anchor}"
    if path.startswith("docs/") and path.endswith(tuple(_TYPES)) and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    return None  # it is in the repository alone


def _listed(source: str) -> Iterator[Listed]:
    """Yield what the first page lists, in its order."""
    group = ""
    for line in source.splitlines():
        if line.startswith("## "):
            group = line[3:]
        elif link := re.match(r"- \[(.+?)\]\((\S+?)\)", line):
            path = posixpath.normpath(posixpath.join("docs", link[2]))
            yield Listed(group, name_of(path), link[1])


def _html(name: str, page: Rendered, listed: list[Listed]) -> str:
    place = next((index for index, each in enumerate(listed) if each.name == name), None)
    return _TEMPLATE.substitute(
        title=escape(page.title),
        navigation=_navigation(name, listed),
        contents=_contents(page),
        page=page.html,
        neighbours="" if place is None else _neighbours(place, listed),
    )


def _navigation(current: str, listed: list[Listed]) -> str:
    """Return the list of all pages, in groups."""
    lines: list[str] = []
    for group in dict.fromkeys(each.group for each in listed):
        lines.append(f"<h2>{escape(group)}</h2>\n<ul>")
        for each in listed:
            if each.group == group:
                mark = ' aria-current="page"' if each.name == current else ""
                lines.append(f'<li><a href="{each.name}"{mark}>{escape(each.title)}</a></li>')
        lines.append("</ul>")
    return "\n".join(lines)


def _contents(page: Rendered) -> str:
    """Return the list of the page's own sections, if it has several."""
    sections = [section for section in page.sections if section.level == 2]  # noqa: PLR2004 - below the title
    if len(sections) <= 1:
        return ""
    links = (f'<li><a href="#{section.anchor}">{escape(section.heading)}</a></li>' for section in sections)
    return "<h2>On this page</h2>\n<ul>\n" + "\n".join(links) + "\n</ul>"


def _neighbours(place: int, listed: list[Listed]) -> str:
    """Return links to the pages before and after this one."""
    links: list[str] = []
    if place > 0:
        links.append(f'<a rel="prev" href="{listed[place - 1].name}">{escape(listed[place - 1].title)}</a>')
    if place + 1 < len(listed):
        links.append(f'<a rel="next" href="{listed[place + 1].name}">{escape(listed[place + 1].title)}</a>')
    return "\n".join(links)
