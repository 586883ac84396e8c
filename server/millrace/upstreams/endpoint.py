"""Where a model is served."""

from typing import Any

from msgspec import Struct

from millrace.upstreams.quirks import PRESETS, Quirks


class UpstreamEndpoint(Struct, frozen=True, kw_only=True):
    """Where a model is served, and its timeouts in seconds."""

    base_url: str
    api_key: str | None
    connect_timeout_s: float
    first_token_timeout_s: float
    stall_timeout_s: float
    quirks: Quirks = PRESETS["auto"]

    def __repr__(self) -> str:  # keeps the key out of logs
        return f"UpstreamEndpoint({self.base_url})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # and out of what is drawn on a terminal
        return [("base_url", self.base_url)]
