"""Who sends a request, and their limits: frozen values, standard library only."""

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import StrEnum


class Role(StrEnum):
    """What a key may do."""

    USE = "use"  # send requests
    ADMIN = "admin"  # also read totals and empty caches


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a key. None means unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # input and output
    in_flight: int | None = None  # requests at once
    dollars_per_day: Decimal | None = None  # a day of UTC
    connections: int | None = None  # WebSockets at once
    max_output_tokens: int | None = None  # of an answer

    def with_defaults(self, defaults: "Limits") -> "Limits":
        """Return these limits, with the defaults in place of None."""
        own = {name: limit for name in _LIMITS if (limit := getattr(self, name)) is not None}
        return replace(defaults, **own)


_LIMITS = tuple(limit.name for limit in fields(Limits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who sends a request. Tenants isolate data; limits are counted per key."""

    key_id: str  # empty while auth is off
    tenant: str
    role: Role
    limits: Limits
    evidence: bool = True  # whether its requests may be sampled and judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is stored: not the secret, only its hash."""

    principal: Principal
    name: str
    digest: bytes  # SHA-256 of the secret
    created_at: float  # Unix seconds
    revoked_at: float | None = None  # Unix seconds; a revoked key stays stored
