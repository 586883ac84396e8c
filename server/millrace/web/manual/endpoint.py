"""`GET /docs/{name}`: needs no key, and loads nothing from elsewhere."""

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

if TYPE_CHECKING:
    from millrace.web.manual.library import Document

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


async def show(request: Request) -> Response:
    """Send a page, what a search looks through, or a file beside the pages."""
    name = request.path_params["name"]
    pages = await asyncio.to_thread(_documents)
    if name not in pages:
        raise HTTPException(404)
    packed, tag = await asyncio.to_thread(_packed, name)
    headers = {**HEADERS, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=pages[name].media_type)
    return Response(pages[name].body, headers=headers, media_type=pages[name].media_type)


async def first(request: Request) -> Response:
    """Lead from /docs to /docs/, since the links of a page are relative."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/docs/", 308)


def _documents() -> "Mapping[str, Document]":
    from millrace.web.manual.library import documents  # noqa: PLC0415 - it takes a reader of Markdown, a slow import

    return documents()


@cache
def _packed(name: str) -> tuple[bytes, str]:
    """Return a document compressed, and its tag."""
    body = _documents()[name].body
    return gzip.compress(body, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:16]}"'
