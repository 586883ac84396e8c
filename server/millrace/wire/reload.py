"""The JSON document of `POST /v1/reload`, which `millrace reload --json` prints too."""

from msgspec import Struct


class ReloadFault(Struct, frozen=True):
    """One fault of the configuration: the path of the key, and what to write instead."""

    path: str
    message: str


class Reloaded(Struct, frozen=True, kw_only=True):
    """What came of reading the configuration anew. With faults nothing has changed.

    `changed` are the keys that hold from now on, for what begins from now on; `needs_restart` those that do not yet.
    """

    read: str  # the file
    changed: list[str] = []
    needs_restart: list[str] = []
    faults: list[ReloadFault] = []
