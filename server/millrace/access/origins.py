"""Web origins: which pages may connect. An origin is scheme, host and port; all three must match."""

import re
from collections.abc import Iterable

LOOPBACK = ("127.0.0.1", "::1", "localhost")

# The form that browsers send (RFC 6454, section 6.2): no path, no user, no query. Other forms come from no browser.
_ORIGIN = re.compile(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


def parse(text: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of a serialised origin, in lower case; None if invalid, as "null" is."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return None
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    return scheme, host.strip("[]"), int(port) if port else _PORTS[scheme]


def serialised(text: str) -> str:
    """Return an origin as browsers write it: lower case, without the default port. Raises `ValueError`."""
    origin = parse(text)
    if origin is None:
        raise ValueError(f"{text!r} is no origin")
    scheme, host, port = origin
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}" if port == _PORTS[scheme] else f"{scheme}://{bracketed}:{port}"


def is_loopback(text: str) -> bool:
    """Whether this is an origin on this machine."""
    origin = parse(text)
    return origin is not None and origin[1] in LOOPBACK


class Origins:
    """The allow-list. Origins are compared by scheme, host and port. There are no wildcards."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.texts = tuple(allowed)
        self._allowed = {origin for text in self.texts if (origin := parse(text)) is not None}

    def __contains__(self, text: str) -> bool:
        origin = parse(text)
        return origin is not None and origin in self._allowed
