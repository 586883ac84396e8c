"""How providers of chat completions differ from OpenAI's, and what is learned from what they refuse. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from millrace.types import CACHE_CONTROL, Message

LEARNED_S = 3600.0  # how long a deployment's refusal of a field is remembered

# What a provider may do without: it changes how an answer is delivered or filed, not what is answered. Tools, the
# format, `stop` and limits are never dropped.
DROPPABLE = (
    "stream_options",
    "parallel_tool_calls",
    "store",
    "service_tier",
    "prompt_cache_key",
    "user",
    "safety_identifier",
    CACHE_CONTROL,
)


class Reasoning(StrEnum):
    """Whether the reasoning of earlier answers goes back to the provider."""

    NO = "no"
    YES = "yes"  # where there is some
    CALLS = "calls"  # in every message with tool calls, also if it is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """What a provider takes."""

    drop: frozenset[str] = frozenset()  # fields that are not sent; `cache_control` is one wherever it is
    reasoning: Reasoning = Reasoning.YES
    system_role: str = "system"  # or developer
    max_tokens_field: str = "max_tokens"  # or max_completion_tokens

    def sends_reasoning(self, message: Message) -> bool:
        """Whether a message goes with its `reasoning_content`."""
        match self.reasoning:
            case Reasoning.NO:
                return False
            case Reasoning.YES:
                return bool(message.reasoning)
            case Reasoning.CALLS:
                return bool(message.calls)


_NEW_OPENAI = Quirks(reasoning=Reasoning.NO, max_tokens_field="max_completion_tokens", drop=frozenset({CACHE_CONTROL}))
_PLAIN = Quirks(reasoning=Reasoning.NO)
PRESETS: Mapping[str, Quirks] = {
    "auto": Quirks(),
    "openai": _NEW_OPENAI,
    "azure": _NEW_OPENAI,
    "gemini": replace(
        _PLAIN, drop=frozenset({"parallel_tool_calls", "store", "prompt_cache_key", "user", CACHE_CONTROL})
    ),
    "xai": _PLAIN,
    "deepseek": Quirks(reasoning=Reasoning.CALLS),
    "mistral": replace(
        _PLAIN,
        drop=frozenset({"stream_options", "store", "service_tier", "user", "safety_identifier", CACHE_CONTROL}),
    ),
    "groq": replace(_NEW_OPENAI, drop=frozenset({"store", "prompt_cache_key", CACHE_CONTROL})),
    "kimi": Quirks(reasoning=Reasoning.CALLS),
    "openrouter": _PLAIN,
    "together": _PLAIN,
    "vllm": Quirks(),
    "ollama": _PLAIN,
    "llamacpp": Quirks(),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference that a refusal has shown, in a form that can be remembered and told."""

    what: str

    def applied(self, quirks: Quirks) -> Quirks:
        """Return quirks with this difference."""
        match self.what.split(" "):
            case ["without", "reasoning_content"]:
                return replace(quirks, reasoning=Reasoning.NO)
            case ["with", "reasoning_content"]:
                return replace(quirks, reasoning=Reasoning.CALLS)
            case ["without", field]:
                return replace(quirks, drop=quirks.drop | {field})
            case ["with", ("max_tokens" | "max_completion_tokens") as field]:
                return replace(quirks, max_tokens_field=field)
            case ["with", ("system" | "developer") as role]:
                return replace(quirks, system_role=role)
        return quirks


def change_for(refusal: str, sent: Mapping[str, Any]) -> Change | None:
    """Return the difference that the words of a 400 or 422 ask for; None if it is something else.

    `sent` are the fields of the refused request. Only what was sent can be left out.
    """
    words = set(re.findall(r"[a-z_]+", refusal.lower()))
    for field, other in (("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")):
        if field in sent and field in words and (other in words or _is_unknown(refusal)):
            return Change(f"with {other}")
    roles = {message.get("role") for message in sent["messages"]}
    for role, other in (("developer", "system"), ("system", "developer")):
        if role in roles and role in words and ("role" in words or other in words):
            return Change(f"with {other}")
    if "reasoning_content" in words:
        has_reasoning = any("reasoning_content" in message for message in sent["messages"])
        is_wanted = "missing" in words or "passed back" in refusal or "must be" in refusal or "required" in words
        if is_wanted:
            return Change("with reasoning_content")
        return Change("without reasoning_content") if has_reasoning else None
    droppable = (field for field in DROPPABLE if field in words and (field in sent or _is_within(sent, field)))
    return next((Change(f"without {field}") for field in droppable), None)


def _is_within(sent: Mapping[str, Any], field: str) -> bool:
    """Whether a field that is no field of the body itself was sent within its messages or tools."""
    return field == CACHE_CONTROL and any(_has(sent.get(name), field) for name in ("messages", "tools"))


def _has(value: Any, field: str) -> bool:
    if isinstance(value, dict):
        return field in value or any(_has(inner, field) for inner in value.values())
    return isinstance(value, list) and any(_has(inner, field) for inner in value)


def _is_unknown(refusal: str) -> bool:
    lower = refusal.lower()
    return any(words in lower for words in ("not permitted", "unsupported", "not supported", "unrecognized", "unknown"))


class Learned:
    """What a deployment has refused, for an hour."""

    __slots__ = ("_quirks", "_until")

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._until: dict[Change, float] = {}

    def learn(self, change: Change, now: float) -> None:
        """Remember a difference; `now` by the clock, in seconds."""
        self._until[change] = now + LEARNED_S

    def quirks(self, now: float) -> tuple[Quirks, tuple[str, ...]]:
        """Return the quirks as they are known now, and what was learned of them."""
        self._until = {change: until for change, until in self._until.items() if until > now}
        quirks = self._quirks
        for change in self._until:
            quirks = change.applied(quirks)
        return quirks, tuple(change.what for change in self._until)
