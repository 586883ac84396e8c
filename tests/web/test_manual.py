"""The documentation at /docs: whole, safe to show, and linked without a gap."""

import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

import aiohttp
import msgspec
import pytest
from yarl import URL

from millrace.web.manual.library import BESIDE, FIRST, ROOT, documents, name_of
from millrace.web.manual.markdown import anchor_of, rendered
from tests.support.keyed_server import keyed_server
from tests.support.server import Running, Start

PAGES = [FIRST, *BESIDE, *(f"docs/{file.name}" for file in ROOT.glob("docs/*.md") if file.name != "README.md")]


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def values(self, *names: str) -> Iterator[str]:
        for _, attributes in self.found:
            yield from (value for name in names if (value := attributes.get(name)) is not None)


def page_of(name: str) -> str:
    return documents()[name].body.decode()


@pytest.fixture
async def http(millrace: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(millrace.url) as session:
        yield session


async def test_a_page_is_sent_with_a_strict_policy(http: aiohttp.ClientSession) -> None:
    async with http.get("/docs/keys") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert "<title>Keys · Millrace</title>" in await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "http" not in policy


async def test_docs_leads_to_the_first_page(http: aiohttp.ClientSession) -> None:
    async with http.get("/docs") as answer:
        assert answer.history[0].status == 308
        assert (answer.url.path, answer.status) == ("/docs/", 200)
        assert '<h1 id="millrace">' in await answer.text()


async def test_what_a_browser_has_is_not_sent_again(http: aiohttp.ClientSession) -> None:
    async with http.get("/docs/keys", headers={"Accept-Encoding": "gzip"}) as packed:
        assert packed.headers["Content-Encoding"] == "gzip"
        tag = packed.headers["ETag"]
    async with http.get("/docs/keys", headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with http.get("/docs/pools", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "path", ["/docs/nothing", "/docs/keys.md", "/docs/..%2fmillrace.toml", "/docs/%2e%2e/README.md"]
)
async def test_nothing_else_is_sent(http: aiohttp.ClientSession, millrace: Running, path: str) -> None:
    async with http.get(URL(millrace.url + path, encoded=True)) as answer:
        assert answer.status == 404
    async with http.post("/docs/keys") as answer:
        assert answer.status == 405


async def test_it_needs_no_key(start: Start, tmp_path: Path) -> None:
    async with keyed_server(start, tmp_path) as server, aiohttp.ClientSession(server.running.url) as http:
        for path in ("/docs/", "/docs/search.json"):
            async with http.get(path) as answer:
                assert answer.status == 200


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_and_runs_nothing_that_it_should_not(path: str) -> None:
    """No inline script, style or handler, and nothing from another server."""
    tags = Tags(page_of(name_of(path)))
    for tag, attributes in tags.found:
        assert tag not in {"style", "iframe", "object", "form", "base"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        if tag in {"script", "link", "img"}:
            assert not str(attributes.get("src") or attributes.get("href")).startswith(("http", "//", "data:"))
    scripts = [attributes for tag, attributes in tags.found if tag == "script"]
    assert [attributes["src"] for attributes in scripts] == ["../docs.js"]


@pytest.mark.parametrize("path", PAGES)
def test_every_link_of_a_page_leads_to_a_page_and_a_place_on_it(path: str) -> None:
    name = name_of(path)
    for link in Tags(page_of(name)).values("href", "src"):
        if link.startswith(("http://", "https://")):
            continue
        address, place = urldefrag(urljoin(f"/docs/{name}", link))
        if not address.startswith("/docs/"):
            assert address in {"/", "/dashboard/", "/dashboard/colours.css", "/icon.svg", "/docs.css", "/docs.js"}
            continue
        assert (target := address.removeprefix("/docs/")) in documents(), link
        assert not place or place in Tags(page_of(target)).values("id"), link


def test_every_page_is_listed_once() -> None:
    listed = re.findall(r"^- \[.+?\]\((\S+?)\)", (ROOT / FIRST).read_text("utf-8"), re.MULTILINE)
    pages = [path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}" for path in PAGES]
    assert sorted(listed) == sorted(set(pages) - {"README.md", "../README.md"})
    assert len({name_of(path) for path in PAGES}) == len(PAGES)


def test_a_search_looks_through_every_section() -> None:
    sections: list[Any] = msgspec.json.decode(documents()["search.json"].body)
    assert {section[0] for section in sections} == {name_of(path) for path in PAGES}
    (prefix,) = (text for _, _, anchor, _, text in sections if anchor == "what-providers-read-from-their-caches")
    assert "prompt_cache_key" in prefix
    assert not re.search(r"[`|]|\]\(", prefix)


def no_link(_: str) -> None:
    return None


def test_html_in_a_page_is_shown_and_not_obeyed() -> None:
    page = rendered("# A <b>title</b>\n\n<script>alert(1)</script>\n\n[a](javascript:alert(1))\n", no_link)
    assert "&lt;script&gt;" in page.html
    assert "<script" not in page.html
    assert "<b>" not in page.html
    assert "href" not in page.html


def test_anchors_are_those_of_code_hosts() -> None:
    assert anchor_of("Why `auto`, and what it costs: 1.5 × p95?") == "why-auto-and-what-it-costs-15--p95"
    page = rendered("# A\n\n## B c\n\nfirst\n\n## B c\n\nsecond\n", no_link)
    assert [(section.anchor, section.text) for section in page.sections] == [
        ("a", ""),
        ("b-c", "first"),
        ("b-c-1", "second"),
    ]


def test_columns_are_aligned_by_classes() -> None:
    page = rendered("# A\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n", no_link)
    assert '<td class="right">2</td>' in page.html
    assert "style" not in page.html
