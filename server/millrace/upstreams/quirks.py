"""How providers differ from those whose API they have, and what is learned from what they refuse. No I/O."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from millrace.types import CACHE_CONTROL
from millrace.upstreams.chat.chunks import OWN_FIELDS

LEARNED_S = 3600.0  # how long a deployment's refusal of a field is remembered

# What a provider may do without: it changes how an answer is delivered or filed, not what is answered. Tools, the
# format, `stop` and limits are never dropped.
ENCRYPTED_REASONING = "reasoning.encrypted_content"  # of the Responses API's `include`
REASONING_SUMMARY = "reasoning.summary"  # of the same API
CACHE_KEY = "prompt_cache_key"
DROPPABLE = (
    "stream_options",
    "include",
    ENCRYPTED_REASONING,
    REASONING_SUMMARY,
    "parallel_tool_calls",
    "store",
    "service_tier",
    CACHE_KEY,
    "user",
    "safety_identifier",
    CACHE_CONTROL,
)
SAMPLING = ("temperature", "top_p", "top_k")  # newer models of the Messages API refuse these
STRICT = "strict"  # of a tool: the model is held to its schema, which is checked here too
_OF_MESSAGES_API = (*SAMPLING, "effort", STRICT)
SIGNED_THINKING = "signed thinking"  # in histories of that API
ALL = frozenset({"*"})


class Reasoning(StrEnum):
    """Whether the reasoning of earlier answers goes back to the provider."""

    NO = "no"
    YES = "yes"  # where there is some
    CALLS = "calls"  # where there is some, and in every answer of a conversation with tool calls


class Thinking(StrEnum):
    """How a model of the Messages API is told to think."""

    ADAPTIVE = "adaptive"  # it finds out how much
    BUDGET = "budget"  # in at most so many tokens; older models take only this


class CallIds(StrEnum):
    """Which ids of tool calls a provider takes. Others are replaced, always by the same."""

    ANY = "any"
    SHORT = "short"  # at most 40 characters
    NINE = "nine"  # nine letters and digits


class Quirks(Struct, frozen=True, kw_only=True):
    """What a provider takes."""

    # Fields that are not sent. `assistant.name` is one of such messages, `cache_control` one wherever it is.
    drop: frozenset[str] = frozenset()
    drop_within: frozenset[str] = frozenset()  # the same, but only of messages, calls and tools, never of the body
    reasoning: Reasoning = Reasoning.YES
    reasoning_fields: tuple[str, ...] = ("reasoning_content",)  # what the provider calls it
    system_role: str = "system"  # or developer
    max_tokens_field: str = "max_tokens"  # or max_completion_tokens
    call_ids: CallIds = CallIds.ANY
    tool_names: bool = False  # whether the result of a call repeats the function's name
    empty_content: bool = False  # whether an answer that only calls has the content "", not null
    signatures: bool = False  # whether calls that another model made need a signature too
    own_fields: frozenset[str] = ALL  # which fields of a provider's own go back to it
    thinking: Thinking = Thinking.ADAPTIVE  # Messages API only, as the next two
    system_turns: bool = True  # whether instructions may stand between turns; else they are told in a user's words
    output_limit: int | None = None  # the most tokens of output that may be asked for; None: not known
    cache_key: bool = False  # whether it takes a `prompt_cache_key`, so that one is made where the client gives none
    marks: bool = True  # whether prompts are marked for its cache, where the client sets no mark

    def drops_within(self, name: object) -> bool:
        """Whether a field of a message, a call or a tool is not sent."""
        return name in self.drop or name in self.drop_within


_PLAIN = Quirks(reasoning=Reasoning.NO, own_fields=frozenset())
_NEW_OPENAI = replace(
    _PLAIN,
    max_tokens_field="max_completion_tokens",
    call_ids=CallIds.SHORT,
    drop=frozenset({CACHE_CONTROL}),
    cache_key=True,
)
_OPEN_MODELS = Quirks(reasoning_fields=("reasoning", "reasoning_content"))
PRESETS: Mapping[str, Quirks] = {
    "auto": Quirks(),
    "openai": _NEW_OPENAI,
    "azure": _NEW_OPENAI,
    "gemini": replace(
        _PLAIN,
        drop=frozenset(
            {"parallel_tool_calls", "store", "prompt_cache_key", "user", "safety_identifier", "assistant.refusal"}
            | {CACHE_CONTROL}
        ),
        tool_names=True,
        signatures=True,
        own_fields=frozenset({"extra_content"}),
    ),
    "xai": replace(_PLAIN, drop=frozenset({"system.name", "assistant.name"}), empty_content=True),
    "deepseek": replace(_PLAIN, reasoning=Reasoning.CALLS),
    "mistral": replace(
        _PLAIN,
        drop=frozenset(
            {"stream_options", "store", "service_tier", "user", "safety_identifier", CACHE_CONTROL}
            | {"system.name", "user.name", "assistant.name", "assistant.refusal"}
        ),
        call_ids=CallIds.NINE,
    ),
    "groq": replace(
        _PLAIN,
        max_tokens_field="max_completion_tokens",
        drop=frozenset(
            {"store", "prompt_cache_key", CACHE_CONTROL}
            | {"system.name", "user.name", "assistant.name", "assistant.refusal"}
        ),
    ),
    "kimi": replace(_PLAIN, reasoning=Reasoning.CALLS),
    "openrouter": replace(_PLAIN, call_ids=CallIds.SHORT, own_fields=ALL),
    "together": _PLAIN,
    "vllm": _OPEN_MODELS,
    "ollama": replace(_PLAIN, reasoning=Reasoning.YES, reasoning_fields=("reasoning",)),
    "llamacpp": Quirks(),
}


class Change(Struct, frozen=True):
    """One difference that a refusal has shown, in a form that can be remembered and told."""

    what: str

    def applied(self, quirks: Quirks) -> Quirks:
        """Return quirks with this difference."""
        if self.what in _WITH:
            return replace(quirks, **_WITH[self.what])
        if limit := _LIMIT.fullmatch(self.what):
            return replace(quirks, output_limit=int(limit[1]))
        name = self.what.removeprefix("without ")
        if name in (*DROPPABLE, *_OF_MESSAGES_API):
            return replace(quirks, drop=quirks.drop | {name})
        return replace(quirks, drop_within=quirks.drop_within | {name})

    @property
    def is_of_the_provider(self) -> bool:
        """Whether it may be remembered: it is about a field that providers know, not one that a client made up."""
        known = (*DROPPABLE, *_OF_MESSAGES_API, *OWN_FIELDS)
        is_limit = self.what.startswith("with at most ")  # and not what the prompt leaves of the window
        return self.what in _WITH or is_limit or self.what.removeprefix("without ") in known


_WITH: Mapping[str, dict[str, Any]] = {
    "without reasoning": {"reasoning": Reasoning.NO},
    "without reasoning_content": {"reasoning": Reasoning.NO},
    "with reasoning_content": {"reasoning": Reasoning.CALLS},
    "with max_tokens": {"max_tokens_field": "max_tokens"},
    "with max_completion_tokens": {"max_tokens_field": "max_completion_tokens"},
    "with system": {"system_role": "system"},
    "with developer": {"system_role": "developer"},
    "with thought_signature": {"signatures": True},
    "with ids of 9 characters": {"call_ids": CallIds.NINE},
    "with ids of 40 characters": {"call_ids": CallIds.SHORT},
    "with names of tools": {"tool_names": True},
    "with empty content": {"empty_content": True},
    "with thinking.budget_tokens": {"thinking": Thinking.BUDGET},
    "with adaptive thinking": {"thinking": Thinking.ADAPTIVE},
    "with system as user": {"system_turns": False},
}
_LIMIT = re.compile(r"with (?:at most|max_tokens) (\d+)(?: tokens)?")
_WANTED = re.compile(r"missing|required|must be (passed|provided|included|present)")
_OF_MESSAGES = {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning"}
_OF_CALLS = {"id", "type", "function"}
_OF_HISTORIES = (  # what a refusal says of the history, and what mends it
    (re.compile(r"missing a `?thought_signature"), "with thought_signature"),
    (re.compile(r"length of 9\b"), "with ids of 9 characters"),
    (re.compile(r"id'?: string too long"), "with ids of 40 characters"),
    (re.compile(r"function_response\.name"), "with names of tools"),
    (re.compile(r"at least one (non-empty )?content element"), "with empty content"),
)


def change_for(refusal: str, sent: Mapping[str, Any]) -> Change | None:
    """Return the difference that the words of a 400 or 422 ask for; None if it is something else.

    `sent` are the fields of the refused request. Only what was sent can be left out.
    """
    if what := next((what for pattern, what in _OF_HISTORIES if pattern.search(refusal)), None):
        return Change(what)
    words = set(re.findall(r"[a-z_]+", refusal.lower()))
    for field, other in (("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")):
        if field in sent and field in words and (other in words or _is_unknown(refusal)):
            return Change(f"with {other}")
    roles = {message.get("role") for message in sent["messages"]}
    for role, other in (("developer", "system"), ("system", "developer")):
        if role in roles and role in words and ("role" in words or other in words):
            return Change(f"with {other}")
    messages = sent["messages"]
    if name := next((name for name in ("reasoning_content", "reasoning") if name in words), None):
        if _WANTED.search(refusal):
            return Change("with reasoning_content")
        if any(name in message for message in messages):
            return Change(f"without {name}")
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    own_fields = {name for message in messages for name in message.keys() - _OF_MESSAGES}
    own_fields |= {name for call in calls for name in call.keys() - _OF_CALLS}
    droppable = [field for field in DROPPABLE if field in sent or _is_within(sent, field)]
    refused = [field for field in (*droppable, *sorted(own_fields)) if field in words]
    refused.sort(key=lambda field: not _is_quoted(refusal, field))
    return next((Change(f"without {field}") for field in refused if is_meant(refusal, field)), None)


def is_meant(refusal: str, field: str) -> bool:
    """Whether a refusal means a field by its name, and has not merely the word."""
    return "_" in field or _is_unknown(refusal) or _is_quoted(refusal, field)


def _is_quoted(refusal: str, field: str) -> bool:
    return bool(re.search(rf"""['"`.\[]{re.escape(field)}['"`\]]""", refusal.lower()))


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
        if not self._until:
            return self._quirks, ()
        self._until = {change: until for change, until in self._until.items() if until > now}
        quirks = self._quirks
        for change in self._until:
            quirks = change.applied(quirks)
        return quirks, tuple(change.what for change in self._until)
