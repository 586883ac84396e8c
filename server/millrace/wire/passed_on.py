"""Fields that Millrace does not read and passes on to the provider, and those that have no place there.

What cannot be passed on is noted, never dropped in silence.
"""

from collections.abc import Collection
from typing import Any

# Of the Responses API; chat completions have no such field.
_RESPONSES_ONLY = frozenset(
    {
        "background",
        "client_metadata",
        "context_management",
        "conversation",
        "include",
        "max_tool_calls",
        "moderation",
        "prompt",
        "stream_options",
        "top_logprobs",
        "truncation",
    }
)
_OURS = frozenset({"type", "millrace", "extra_body", "n", "modalities"})
_ABSENT: tuple[object, ...] = (None, False, 0, [], {}, "", "disabled")


def passed_on(fields: dict[str, Any], read: Collection[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields that go to the provider as they are, and the names of those that cannot.

    `read` are the names of the fields that the dialect reads. `extra_body` is where some clients put a vendor's fields.
    """
    extra = fields.get("extra_body")
    unread = {
        name: value
        for name, value in (fields | extra if isinstance(extra, dict) else fields).items()
        if name not in read and name not in _OURS and value is not None
    }
    passed = {name: value for name, value in unread.items() if name not in _RESPONSES_ONLY}
    lost = tuple(name for name, value in unread.items() if name in _RESPONSES_ONLY and value not in _ABSENT)
    return passed, lost
