"""What may change while a server runs, and what needs a restart."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from millrace.settings.faults import join
from millrace.settings.sections import Settings


class Source(Struct, frozen=True):
    """Where the settings of a server come from, to be read anew."""

    name: str  # of the file
    read: Callable[[], Settings]  # raises `SettingsError` with all faults


_ALL = "*"
# The keys of each section that a server takes over while it runs. Whatever is not named needs a restart.
LIVE: dict[str, Collection[str]] = {
    "models": _ALL,
    "funnel": _ALL,
    "router": _ALL,
    "checks": _ALL,
    "guards": _ALL,
    "limits": _ALL,
    "budgets": _ALL,
    "dashboard": _ALL,
    "server": ("origins",),
    "cache": ("exact", "semantic", "ttl_s", "semantic_threshold", "max_wrong_hit_rate"),
    "evidence": ("hit_share", "small_share", "large_share", "dollars_per_day", "model_judge", "checked_share"),
}


class Merged(NamedTuple):
    """What comes of new settings: those that hold from now on, and the paths of the keys that have changed."""

    settings: Settings
    changed: list[str]  # keys that hold from now on
    restart: list[str]  # keys that do not until the next start


def merged(started: Settings, now: Settings, found: Settings) -> Merged:
    """Return what comes of new settings in a server that began with some, and has others now.

    A cache that was off at the start has not been opened, so it stays off.
    """
    sections: dict[str, Any] = {}
    for section in Settings.__struct_fields__:
        live = LIVE.get(section, ())
        if live is _ALL:
            continue
        before, after = getattr(now, section), getattr(found, section)
        fixed = [name for name in type(after).__struct_fields__ if name not in live]
        if section == "cache":
            fixed += [name for name in ("exact", "semantic") if not getattr(started.cache, name)]
        sections[section] = replace(after, **{name: getattr(before, name) for name in fixed})
    settings = replace(found, **sections)
    return Merged(settings, [*differences(now, settings)], [*differences(settings, found)])


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of the keys in which two configurations differ."""
    if before == after:
        return
    if isinstance(before, Struct) and type(before) is type(after):
        for name in before.__struct_fields__:
            yield from differences(getattr(before, name), getattr(after, name), join(path, name))
    elif isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from differences(before.get(name), after.get(name), join(path, name))
    else:
        yield path
