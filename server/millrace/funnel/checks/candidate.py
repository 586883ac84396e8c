"""An answer that is to be judged, and what is known of its request."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from millrace.funnel.checks.answer_text import AnswerText
from millrace.types import (
    RESPONSES_PATHS,
    Aside,
    Finish,
    Format,
    Paths,
    Request,
    Sealed,
    Tool,
    ToolCall,
    calls_of,
    refusal_of,
)
from millrace.types.tool_choice import ToolChoice

TOOLS_FOUND = "tool_search_output"  # the type of an item that has tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer to be judged; `finish` is None while only its beginning has come."""

    text: str
    finish: Finish | None
    format: Format | None = None
    schema: dict[str, Any] | None = None  # in addition to the format; not sent to the model
    pattern: str | None = None  # a regular expression that the text must match; not sent to the model
    tools: tuple[Tool, ...] = ()  # those offered to the model
    tool_choice: ToolChoice | None = None
    has_items: bool = False  # of hosted tools: of what the provider did, or wants done
    found_tools: bool = False  # the model has searched for tools, and may call what it found
    calls: tuple[ToolCall, ...] = ()
    refusal: str = ""  # text that the provider marked as one
    unchecked: tuple[str, ...] = ()  # paths of schemas, or of patterns in them, that are not applied
    paths: Paths = RESPONSES_PATHS
    tenant: str = ""
    question: str = ""  # the text of the last message of the user
    context: str = ""  # the chunks that were sent with it
    read: AnswerText = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make ready what reads the text."""
        object.__setattr__(self, "read", AnswerText(self.text, self.question))

    @property
    def is_declared(self) -> bool:
        """Whether its request declares what it must be, or it calls."""
        is_shaped = self.format is not None or self.schema is not None or self.pattern is not None
        return is_shaped or self.tool_choice is not None or bool(self.calls)

    @classmethod
    def of(cls, request: Request, text: str, asides: Sequence[Aside], finish: Finish | None) -> Self:
        """Return the candidate for what a model has sent so far."""
        return cls(
            text=text,
            finish=finish,
            format=request.prompt.format,
            schema=request.check_schema,
            pattern=request.check_pattern,
            tools=request.prompt.tools,
            tool_choice=request.prompt.tool_choice,
            **(_beside(asides) if asides else {}),
            found_tools=bool(request.prompt.tools) and _found_tools(request, asides),
            unchecked=request.unchecked,
            paths=request.paths,
            tenant=request.tenant,
            question=_question(request),
            context=request.prompt.context,
        )


def _beside(asides: Sequence[Aside]) -> dict[str, Any]:
    """Return what there is beside the text."""
    return {
        "has_items": any(isinstance(aside, Sealed) and not aside.is_thought for aside in asides),
        "calls": calls_of(asides),
        "refusal": refusal_of(asides),
    }


def _question(request: Request) -> str:
    for message in reversed(request.prompt.messages):
        if message.role == "user":
            return message.text
    return ""


def _found_tools(request: Request, asides: Sequence[Aside]) -> bool:
    if not any(tool.hosted is not None for tool in request.prompt.tools):
        return False
    before = (one for message in request.prompt.messages for one in message.sealed)
    sealed = (*before, *(aside for aside in asides if isinstance(aside, Sealed)))
    return any(one.kind == TOOLS_FOUND for one in sealed)
