"""A fault of the configuration, and where its values came from."""

from typing import Any, Self

from msgspec import Struct


class Fault(Struct, frozen=True):
    """One fault: the path of the key, and what to write instead."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SettingsError(Exception):
    """All faults of a configuration."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class Override(str):
    """A text from a variable or a flag, which is named by `origin`. It is converted loosely: "8000" is a number."""

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, text: str, origin: str) -> Self:
        """Return the text, with what names its origin."""
        override = super().__new__(cls, text)
        override.origin = origin
        return override


def at(tree: Any, *path: str) -> Any:
    """Return what a tree has at a path; None if it has nothing there."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def origin(value: Any) -> str:
    """Return where a value came from, if not from the file."""
    return f" (from {value.origin})" if isinstance(value, Override) else ""


def join(path: str, name: str) -> str:
    """Return the path of a key in a section."""
    return f"{path}.{name}" if path else name


def listed(names: Any) -> str:
    """Return names with commas between."""
    return ", ".join(map(str, names))


def split(text: str) -> list[str]:
    """Return the parts of a text with commas."""
    return [stripped for part in text.split(",") if (stripped := part.strip())]
