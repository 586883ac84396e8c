"""The endpoints under /v1/cache: admins look into the caches of their tenant, and delete from them."""

import binascii

from starlette.requests import Request

from millrace.errors import MillraceError, invalid
from millrace.types import TenantCache
from millrace.web.admins import for_admins
from millrace.web.endpoints import opened
from millrace.web.process import principal_of, process_of
from millrace.wire import cache as wire
from millrace.wire.reading import convert, decode

MAX_BODY = 64 * 1024  # bytes, of two questions
MAX_QUERY = 2000  # characters; a longer question is in no semantic cache
MAX_FOUND = 32
SCOPE_CHARACTERS = 64  # hexadecimal, of a whole digest


@for_admins
async def stats(request: Request) -> wire.CacheStats:
    """`GET /v1/cache/stats`."""
    tenant = principal_of(request).tenant
    held = await process_of(request).cache.stats(tenant)
    return wire.stats(held[0] if held else TenantCache(tenant=tenant))


@for_admins
async def search(request: Request) -> wire.FoundEntries:
    """`GET /v1/cache/entries?query=...`: the stored questions nearest to a text."""
    given = request.query_params
    text, limit = given.get("query", ""), given.get("limit", "10")
    if not 0 < len(text) <= MAX_QUERY:
        raise invalid("query", f"query: write a question of at most {MAX_QUERY} characters")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(MAX_FOUND)) and 1 <= int(limit) <= MAX_FOUND):
        raise invalid("limit", f"limit: expected a number from 1 to {MAX_FOUND}")
    tenant, scope = principal_of(request).tenant, _scope(given.get("scope", ""))
    near = await process_of(request).cache.search(text, tenant=tenant, scope=scope, most=int(limit))
    return wire.FoundEntries([wire.found(each) for each in near])


@for_admins
async def show(request: Request) -> wire.ShownEntry:
    """`GET /v1/cache/entries/{id}`."""
    entry_id = request.path_params["id"]
    kept = await process_of(request).cache.entry(entry_id, tenant=principal_of(request).tenant)
    if kept is None:
        raise _not_found(entry_id)
    return wire.entry(kept)


@for_admins
async def delete(request: Request) -> wire.DeletedEntries:
    """`DELETE /v1/cache/entries/{id}`: from both caches."""
    entry_id = request.path_params["id"]
    deleted = await process_of(request).cache.delete([entry_id], tenant=principal_of(request).tenant)
    if not (deleted.exact or deleted.semantic):
        raise _not_found(entry_id)
    return wire.DeletedEntries(exact=deleted.exact, semantic=deleted.semantic)


@for_admins
async def flush(request: Request) -> wire.DeletedEntries:
    """`DELETE /v1/cache/entries?tenant=...`, or `?scope=...`: all that is stored until now."""
    given, own = request.query_params, principal_of(request).tenant
    if given.get("tenant", own) != own:
        raise MillraceError("forbidden", f"tenant: this key is of {own!r}; `millrace cache flush` deletes of any")
    if not ({"tenant", "scope"} & given.keys()):
        raise invalid("tenant", f"tenant: name what to delete: ?tenant={own}, or one scope of it: ?scope=...")
    scope = _scope(given["scope"]) if "scope" in given else None
    if scope is not None and 2 * len(scope) != SCOPE_CHARACTERS:
        raise invalid("scope", f"scope: write all {SCOPE_CHARACTERS} characters, as an entry shows them")
    deleted = await process_of(request).cache.flush(tenant=own, scope=scope)
    return wire.DeletedEntries(exact=deleted.exact, semantic=deleted.semantic)


@for_admins
async def why(request: Request) -> wire.ShownDecision:
    """`POST /v1/cache/why`: what the decision says of two questions."""

    def read(body: bytes) -> wire.Asked:
        return convert(decode(body, "the body"), wire.Asked)

    asked = await opened(request, MAX_BODY, read)
    for name, text in (("a", asked.a), ("b", asked.b)):
        if not 0 < len(text) <= MAX_QUERY:
            raise invalid(name, f"{name}: write a question of at most {MAX_QUERY} characters")
    return wire.decision(await process_of(request).cache.why(asked.a, asked.b))


def _scope(text: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except ValueError:
        raise invalid("scope", "scope: write its hexadecimal characters as an entry shows them, two or more") from None


def _not_found(entry_id: str) -> MillraceError:
    return MillraceError("entry_not_found", f"no entry {entry_id[:80]!r} is stored; hits name theirs in entry_id")
