"""How a model is to reason: as a client of this API says it, or as another one asks for thinking. No I/O."""

from collections.abc import Mapping
from typing import Any

from millrace.types import Api, Prompt
from millrace.upstreams.quirks import Quirks

_FIELDS = ("effort", "summary", "generate_summary", "context", "mode")  # that `reasoning` may have
_EFFORTS = ((2048, "low"), (8192, "medium"))  # most tokens of a budget for thinking; above them it is high
THINKING = "thinking"  # of the Messages API


def reasoning_of(prompt: Prompt, given: Mapping[str, Any], quirks: Quirks, lost: list[str]) -> dict[str, Any] | None:
    """Return the field `reasoning`; add the names of what it cannot have to `lost`, and take out what it stands for.

    `given` are the fields of clients of this API. Who asks another API for thinking is shown a summary of it.
    """
    asked = given.get("reasoning")
    asked = asked if isinstance(asked, dict) else {}
    asked = {name: value for name, value in asked.items() if value != "none" or name == "effort"}
    lost += [f"reasoning.{name}" for name in asked if name not in _FIELDS]
    effort = {} if prompt.reasoning_effort is None else {"effort": prompt.reasoning_effort}
    fields = _thinking(prompt) | {name: value for name, value in asked.items() if name in _FIELDS} | effort
    if THINKING in lost and fields:
        lost.remove(THINKING)
    return {name: value for name, value in fields.items() if f"reasoning.{name}" not in quirks.drop} or None


def _thinking(prompt: Prompt) -> dict[str, Any]:
    """Return what a request for thinking in the words of the Messages API means here."""
    native = prompt.native
    asked = native.fields.get(THINKING) if native is not None and native.api is Api.MESSAGES else None
    if not isinstance(asked, dict) or asked.get("type") not in ("enabled", "adaptive"):
        return {}
    budget = asked.get("budget_tokens")
    fields = {} if asked.get("display") == "omitted" else {"summary": "auto"}
    if isinstance(budget, int):
        fields["effort"] = next((effort for most, effort in _EFFORTS if budget <= most), "high")
    return fields
