"""Keys: how they are made and verified, and the ring of all keys.

Only the SHA-256 of a secret is stored. A fast hash is enough: a secret is 256 random bits, not a password, so it cannot
be guessed, and a slow hash would only slow down the handshake.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from millrace import log
from millrace.errors import MillraceError
from millrace.ports import Clock, KeyStore
from millrace.principal import Key, Limits, Principal, Role
from millrace.wire import limits

POLL_S = limits.REVOKED_S / 2  # seconds between two reads of the store; changes take effect within twice this time
UNLIMITED = Limits()
ANONYMOUS = Principal(key_id="", tenant="anonymous", role=Role.ADMIN, limits=UNLIMITED)  # any client while auth is off

_KEY = re.compile(r"mr_([0-9a-f]{12})_([0-9a-f]{64})")


def make(
    *,
    tenant: str,
    role: Role,
    name: str = "",
    limits: Limits = UNLIMITED,
    evidence: bool = True,
    created_at: float,
) -> tuple[Key, str]:
    """Return a new key and its text, which is shown once and never stored. `created_at` is in Unix seconds."""
    key_id = secrets.token_hex(6)
    hashed, text = new_secret(key_id)
    principal = Principal(key_id=key_id, tenant=tenant, role=role, limits=limits, evidence=evidence)
    return Key(principal=principal, name=name, digest=hashed, created_at=created_at), text


def new_secret(key_id: str) -> tuple[bytes, str]:
    """Return the hash of a new secret of a key, and the text that its owner sends."""
    secret = secrets.token_hex(32)
    return digest(secret), f"mr_{key_id}_{secret}"


def digest(secret: str) -> bytes:
    """Return the hash of a secret, which is stored in its place."""
    return hashlib.sha256(secret.encode()).digest()


class Keyring:
    """The keys as they were last read from the store. They are in memory because every connection needs them.

    Auth is off while the store has no key, if `may_be_open` allows it: only a server on loopback may. Once auth is on
    it stays on, even if the store loses its keys.
    """

    def __init__(self, *, may_be_open: bool, defaults: Limits = UNLIMITED, wall: Clock = time.time) -> None:
        self._stored: tuple[Key, ...] = ()
        self._keys: dict[str, Key] = {}  # the same with the default limits
        self._wall = wall
        self._open = may_be_open
        self._opens_if_empty = False  # once it is known that there is no key
        self._tenants: set[str] = set()
        self._defaults = defaults
        self.on_change: Callable[[], None] = lambda: None

    @property
    def auth_is_off(self) -> bool:
        """Whether auth is off."""
        return self._open

    @property
    def are_many(self) -> bool:
        """Whether there are several tenants who share this server."""
        return len(self._tenants) > 1

    def close_until_known(self) -> None:
        """Let nobody in until the keys are known: the store could not be read, so there may be some."""
        self._opens_if_empty, self._open = self._open, False

    def replace(self, keys: Iterable[Key]) -> None:
        """Take over the keys of the store. Revoked keys count too: they also turn auth on."""
        self._stored = tuple(keys)
        self._keys = {key.principal.key_id: self._with_defaults(key) for key in self._stored}
        self._tenants = {key.principal.tenant for key in self._keys.values() if key.revoked_at is None}
        self._open = (self._open or self._opens_if_empty) and not self._keys
        self._opens_if_empty = False
        self.on_change()

    def set_defaults(self, defaults: Limits) -> None:
        """Set the limits of keys that have none of their own; they hold from the next request on."""
        self._defaults = defaults
        self.replace(self._stored)

    def owner(self, text: str) -> Principal:
        """Return the principal of a key. Raises `unauthorized`."""
        found = _KEY.fullmatch(text)
        key = self._keys.get(found[1]) if found else None
        owner = None if found is None or key is None else self._owner(key, digest(found[2]))
        if key is None or owner is None:
            raise MillraceError("unauthorized", 'Authorization: unknown key; send "Bearer mr_..." as it was shown')
        if key.revoked_at is not None:
            raise MillraceError("unauthorized", "Authorization: this key is revoked; ask for a new one")
        if not self.may_stay(owner):
            raise MillraceError("unauthorized", "Authorization: this key was rotated; send the new one")
        return owner

    def _owner(self, key: Key, sent: bytes) -> Principal | None:
        """Return who sends a secret of a key, which may be the one before its rotation; None if it is neither."""
        if hmac.compare_digest(key.digest, sent):
            return key.principal
        if key.earlier is not None and hmac.compare_digest(key.earlier.digest, sent):
            return replace(key.principal, rotations=key.principal.rotations - 1)
        return None

    def may_stay(self, principal: Principal) -> bool:
        """Whether a principal may still send requests: its key is valid, and so is the secret that it came with."""
        if not self.is_valid(principal.key_id):
            return False
        key = self._keys.get(principal.key_id)
        if key is None or key.principal.rotations <= principal.rotations:
            return True
        is_last = key.principal.rotations == principal.rotations + 1
        return is_last and key.earlier is not None and self._wall() < key.earlier.until

    def with_limits(self, principal: Principal) -> Principal:
        """Return a principal with the limits that its key has now."""
        key = self._keys.get(principal.key_id)
        return principal if key is None else key.principal

    def principal(self, key_id: str) -> Principal | None:
        """Return the principal of an id, or None if it may not stay: see `is_valid`."""
        if not self.is_valid(key_id):
            return None
        return self._keys[key_id].principal if key_id else ANONYMOUS

    def is_valid(self, key_id: str) -> bool:
        """Whether an admitted principal may stay: its key is not revoked, or, for the empty id, auth is still off."""
        if not key_id:
            return self._open
        key = self._keys.get(key_id)
        return key is not None and key.revoked_at is None

    def _with_defaults(self, key: Key) -> Key:
        return replace(key, principal=replace(key.principal, limits=key.principal.limits.with_defaults(self._defaults)))


async def follow(keyring: Keyring, store: KeyStore, every_s: float = POLL_S) -> None:
    """Read the store into the ring, again and again until cancelled. A failed read is repeated next time."""
    applied: list[Key] | None = None
    while True:
        await asyncio.sleep(every_s)
        try:
            if (found := await store.load()) is not applied:  # the same list if nothing has changed
                keyring.replace(found)
                applied = found
        except Exception as error:  # locked file or lost disk: the last keys stay valid
            log.get().error("keys not read", exc_info=error)
