"""Keys: how they are made, how they are known again, and the ring of those that are good now.

Only the SHA-256 of a secret is kept. A plain hash is right here: a secret is 256 random bits and not a password, so
there is nothing to guess, and a slow hash would only slow down the handshake.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace

from millrace import log
from millrace.errors import MillraceError
from millrace.ports import KeyStore
from millrace.principal import Key, Limits, Principal, Role
from millrace.wire import limits

POLL_S = limits.REVOKED_S / 2  # a new key is good, and a revoked one bad, within twice this
UNLIMITED = Limits()
ANONYMOUS = Principal(key_id="", tenant="anonymous", role=Role.ADMIN, limits=UNLIMITED)  # everyone, while auth is off

_KEY = re.compile(r"mr_([0-9a-f]{12})_([0-9a-f]{64})")


def make(
    *,
    tenant: str,
    role: Role,
    name: str = "",
    limits: Limits = UNLIMITED,
    created_at: float,
) -> tuple[Key, str]:
    """Return a new key and its text, which is shown once and kept nowhere. `created_at` in Unix seconds."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    principal = Principal(key_id=key_id, tenant=tenant, role=role, limits=limits)
    key = Key(principal=principal, name=name, digest=digest(secret), created_at=created_at)
    return key, f"mr_{key_id}_{secret}"


def digest(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


class Keyring:
    """The keys as they were last read from the store; looked at for every connection, so in memory only.

    Auth is off while the store has no key at all, which `may_be_open` has to allow: only a server that listens on
    loopback may. Once on it stays on, whatever becomes of the store.
    """

    def __init__(self, *, may_be_open: bool, defaults: Limits = UNLIMITED) -> None:
        self._keys: dict[str, Key] = {}
        self._open = may_be_open
        self._defaults = defaults

    @property
    def is_open(self) -> bool:
        """Whether auth is off."""
        return self._open

    def replace(self, keys: Iterable[Key]) -> None:
        """Take over what the store holds, the revoked keys too: they also say that auth is on."""
        self._keys = {key.principal.key_id: self._limited(key) for key in keys}
        self._open = self._open and not self._keys

    def owner(self, text: str) -> Principal:
        """Return whose key this is; raise `unauthorized`."""
        found = _KEY.fullmatch(text)
        key = self._keys.get(found[1]) if found else None
        if found is None or key is None or not hmac.compare_digest(key.digest, digest(found[2])):
            raise MillraceError("unauthorized", 'Authorization: no such key; send "Bearer mr_..." as it was shown')
        if key.revoked_at is not None:
            raise MillraceError("unauthorized", "Authorization: this key is revoked; ask for a new one")
        return key.principal

    def holds(self, key_id: str) -> bool:
        """Whether someone who was let in may stay: the key is still good, or auth is still off."""
        if not key_id:
            return self._open
        key = self._keys.get(key_id)
        return key is not None and key.revoked_at is None

    def _limited(self, key: Key) -> Key:
        return replace(key, principal=replace(key.principal, limits=key.principal.limits.over(self._defaults)))


async def follow(keyring: Keyring, store: KeyStore, every_s: float = POLL_S) -> None:
    """Keep the ring as the store is, until cancelled. What cannot be read now is read next time."""
    known: list[Key] | None = None
    while True:
        await asyncio.sleep(every_s)
        try:
            if (found := await store.load()) is not known:
                keyring.replace(found)
                known = found
        except Exception as error:  # the file is locked, or the disk is gone: the last known keys hold
            log.get().error("keys not read", exc_info=error)
