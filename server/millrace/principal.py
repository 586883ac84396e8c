"""Who sends a request, and their limits: frozen values, standard library only."""

from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import fields, replace

from millrace.types.budget import AccountKind, AccountName


class Role(StrEnum):
    """What a key may do."""

    USE = "use"  # send requests
    ADMIN = "admin"  # also read totals and empty caches


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of a key. None means unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # input and output
    in_flight: int | None = None  # requests at once
    dollars_per_day: Decimal | None = None  # a day of UTC
    dollars_per_month: Decimal | None = None  # a month of UTC
    connections: int | None = None  # WebSockets at once
    max_output_tokens: int | None = None  # of an answer

    def with_defaults(self, defaults: "Limits") -> "Limits":
        """Return these limits, with the defaults in place of None."""
        own = {name: limit for name in _LIMITS if (limit := getattr(self, name)) is not None}
        return replace(defaults, **own)

    def shared(self, among: int) -> "Limits":
        """Return the share of one of so many workers; it may always do one thing at a time."""
        counts = {name: max(1, most // among) for name in _COUNTS if (most := getattr(self, name)) is not None}
        dollars = {
            name: (most / among).quantize(_SMALLEST, ROUND_DOWN)
            for name in _DOLLARS
            if (most := getattr(self, name)) is not None
        }
        return replace(self, **counts, **dollars)


_SMALLEST = Decimal("1e-9")  # dollars
_COUNTS = ("requests_per_minute", "tokens_per_minute", "in_flight", "connections")
_DOLLARS = ("dollars_per_day", "dollars_per_month")
_LIMITS = tuple(limit.name for limit in fields(Limits))
UNLIMITED = Limits()


class LimitRules(Struct, frozen=True, kw_only=True):
    """The limits of what has no key of its own: tenants, their end users, and tags."""

    tenant: Limits = UNLIMITED  # of each that is not named
    tenants: Mapping[str, Limits] = field(default_factory=dict)
    user: Limits = UNLIMITED  # of each end user of a tenant
    tag: Limits = UNLIMITED  # of each tag of a tenant that is not named
    tags: Mapping[str, Limits] = field(default_factory=dict)

    def of(self, name: AccountName) -> Limits:
        """Return the limits of an account that is no key's. Those of a tag hold for each tenant by itself."""
        match name.kind:
            case AccountKind.TENANT:
                return self.tenants.get(name.tenant, self.tenant)
            case AccountKind.TAG:
                return self.tags.get(name.name, self.tag)
            case AccountKind.USER:
                return self.user
        return UNLIMITED


NO_RULES = LimitRules()


class Principal(Struct, frozen=True, kw_only=True):
    """Who sends a request. Tenants isolate data; limits are counted per key."""

    key_id: str  # empty while auth is off
    tenant: str
    role: Role
    limits: Limits
    evidence: bool = True  # whether its requests may be sampled and judged
    rotations: int = 0  # of its key, as of the secret that it came with


class Key(Struct, frozen=True, kw_only=True):
    """A key as it is stored: not the secret, only its hash."""

    principal: Principal
    name: str
    digest: bytes  # SHA-256 of the secret
    created_at: float  # Unix seconds
    revoked_at: float | None = None  # Unix seconds; a revoked key stays stored
    earlier: "EarlierSecret | None" = None  # the secret before the last rotation


class EarlierSecret(Struct, frozen=True):
    """The secret that a key had before it was rotated."""

    digest: bytes  # SHA-256 of it
    until: float  # Unix seconds, from which on it is refused
