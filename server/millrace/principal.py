"""Who asks, and how much they may do: frozen values, standard library only."""

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import StrEnum


class Role(StrEnum):
    """What a key may do."""

    USE = "use"  # ask
    ADMIN = "admin"  # also see totals, and empty caches


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a key may do; None: as much as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # in and out
    in_flight: int | None = None  # requests
    dollars_per_day: Decimal | None = None  # a day of UTC
    connections: int | None = None

    def over(self, defaults: "Limits") -> "Limits":
        """Return these, and the defaults where there are none."""
        own = {name: limit for name in _LIMITS if (limit := getattr(self, name)) is not None}
        return replace(defaults, **own)


_LIMITS = tuple(limit.name for limit in fields(Limits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. Walls are by tenant, limits by key."""

    key_id: str  # empty while auth is off
    tenant: str
    role: Role
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is kept: not the secret, only what it is recognised by."""

    principal: Principal
    name: str
    digest: bytes  # SHA-256 of the secret
    created_at: float  # Unix seconds
    revoked_at: float | None = None  # Unix seconds; a revoked key is kept
