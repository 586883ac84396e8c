"""Which tool the model may or must call: one value for all dialects, the upstreams, the checks and the cache keys."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal

ToolKey = tuple[str, str]  # namespace and name


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`auto`, `none`, `required` (at least one call), `function`: a call of that tool and of no other, or `hosted`.

    A hosted tool is run by the provider, so no call of it can be seen here; its name is its type.
    """

    mode: Literal["auto", "none", "required", "function", "hosted"]
    name: str = ""  # of the tool; empty in the other modes
    namespace: str = ""  # of the tool
    allowed: tuple[ToolKey, ...] | None = None  # the only tools that may be called; None: all
    given: dict[str, Any] | None = field(default=None, compare=False)  # as the Responses API has it, if it came so

    @property
    def key(self) -> str:
        """The text that goes into cache keys. If it changes, raise `VERSION` in funnel/fingerprint.py."""
        if self.mode in ("function", "hosted"):
            return f"{self.mode}:{self.namespace + chr(0) if self.namespace else ''}{self.name}"
        if self.allowed is None:
            return self.mode
        return f"{self.mode}:{sorted(self.allowed)}"

    def allows(self, tool: ToolKey) -> bool:
        """Whether a tool may be called."""
        return self.allowed is None or tool in self.allowed

    def satisfied_by(self, called: AbstractSet[ToolKey]) -> bool:
        """Whether an answer that called these tools made the calls that must be made, and none that must not be."""
        if self.mode == "required" and not called:
            return False
        if self.mode == "function":
            return called == {(self.namespace, self.name)}
        return all(map(self.allows, called))
