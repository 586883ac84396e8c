"""Which tool the model may or must call: one value for both dialects, the upstreams, the checks and the cache keys."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`auto`, `none`, `required` (at least one call), or `function`: a call of the function `name` and of no other."""

    mode: Literal["auto", "none", "required", "function"]
    name: str = ""  # of the function; empty in the other modes

    @property
    def key(self) -> str:
        """The text that goes into cache keys. If it changes, raise `VERSION` in funnel/fingerprint.py."""
        return f"function:{self.name}" if self.mode == "function" else self.mode

    def satisfied_by(self, called: AbstractSet[str]) -> bool:
        """Whether an answer that called these functions made the calls that must be made."""
        if self.mode == "required":
            return bool(called)
        return self.mode != "function" or called == {self.name}
