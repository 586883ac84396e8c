"""Where a model is served."""

from dataclasses import dataclass

from millrace.upstreams.quirks import PRESETS, Quirks


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamEndpoint:
    """Where a model is served, and its timeouts in seconds."""

    base_url: str
    api_key: str | None
    connect_timeout_s: float
    first_token_timeout_s: float
    stall_timeout_s: float
    quirks: Quirks = PRESETS["auto"]

    def __repr__(self) -> str:  # keeps the key out of logs
        return f"UpstreamEndpoint({self.base_url})"
