"""The parts of Responses events: output items, usage and cost, errors, the response itself.

What is a list in JSON is a tuple where the server makes it: empty, it is no object, and the collector skips it.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

from millrace.errors import MillraceError
from millrace.types import Charge, Statement, Tool, ToolCall, Usage, scores_of
from millrace.types.tool_choice import ToolChoice
from millrace.wire.hosted import AnyAnswerItem, AnyClientItem


class OutputText(Struct, tag="output_text", gc=False):
    """Text of an answer."""

    text: str
    annotations: Sequence[Any] = ()
    logprobs: Sequence[Any] = ()


def output_text(text: str) -> OutputText:
    """Return a text part, with the log-probabilities of its text. They are written as they came, and never decoded."""
    scores = scores_of(text)
    return OutputText(str(text), logprobs=(Raw(scores),) if scores else ())


class OutputRefusal(Struct, tag="refusal", gc=False):
    """Text that the provider marked as a refusal."""

    refusal: str


Part = OutputText | OutputRefusal


class OutputMessage(Struct, tag="message", gc=False):
    """The output item that holds the text of the answer."""

    id: str
    status: str
    content: Sequence[Part]
    role: str = "assistant"


class ReasoningText(Struct, tag="reasoning_text", gc=False):
    """Text of a model's reasoning."""

    text: str


class SummaryText(Struct, tag="summary_text", gc=False):
    """A model's reasoning, for a client that asked for a summary of it."""

    text: str


ContentPart = OutputText | OutputRefusal | ReasoningText


class Reasoning(Struct, tag="reasoning", gc=False):
    """The output item that holds a model's reasoning, as the provider returned it: as `summary` if that was asked."""

    id: str
    status: str
    content: Sequence[ReasoningText] = ()
    summary: Sequence[SummaryText] = ()
    encrypted_content: str | UnsetType = UNSET  # opaque; clients send it back


class FunctionCall(Struct, tag="function_call", gc=False):
    """The output item of one tool call. `arguments` is JSON as the model wrote it."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: str
    namespace: str | UnsetType = UNSET


class CustomCall(Struct, tag="custom_tool_call", gc=False):
    """The output item of one call of a custom tool. `input` is the text that the model wrote."""

    id: str
    call_id: str
    name: str
    input: str
    status: str
    namespace: str | UnsetType = UNSET


CallItem = FunctionCall | CustomCall
Item = OutputMessage | Reasoning | FunctionCall | CustomCall | AnyAnswerItem | AnyClientItem


class InputDetails(Struct, gc=False):
    """Input tokens that the provider had in its cache, and those that it has written there."""

    cached_tokens: int
    cache_write_tokens: int | UnsetType = UNSET


class OutputDetails(Struct, gc=False):
    """Output tokens spent on reasoning."""

    reasoning_tokens: int


class BudgetSoFar(Struct, kw_only=True, gc=False):
    """The scarcest budget of a request, which has reached a step."""

    step: str  # warn, small or cache
    account: str  # whose it is: key, tenant, user or tag
    period: str  # day or month, of UTC
    left_usd: float
    limit_usd: float
    resets_at: int  # Unix seconds


class Attempt(Struct, gc=False):
    """One upstream call on the bill."""

    model: str
    tokens: int  # input and output
    cost_usd: float
    outcome: str
    estimated: bool = False
    deployment: str | UnsetType = UNSET  # the label of the one that was asked, where the model has several


class UsageBody(Struct, gc=False):
    """Tokens of the answer shown, and dollars of the whole bill, which is the sum of the attempts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int
    cost_usd: float
    saved_usd: float
    attempts: Sequence[Attempt] = ()
    estimated: bool = False  # at least one of these numbers is an estimate
    trimmed_tokens: int | UnsetType = UNSET  # cut from the prompt
    max_output_tokens: int | UnsetType = UNSET  # the operator's cap of the answer, if no other one was lower


class ErrorBody(Struct, gc=False):
    """An error. `param` is the path of the faulty field in the request."""

    type: str
    code: str
    message: str
    param: str | None = None
    retry_after_ms: int | UnsetType = UNSET


class IncompleteDetails(Struct, gc=False):
    """Why an answer is incomplete."""

    reason: str


class ResponseBody(Struct, gc=False):
    """The response as the lifecycle events carry it."""

    id: str
    created_at: int
    status: str
    model: str
    metadata: dict[str, str]
    object: str = "response"
    output: Sequence[Item] = ()
    usage: UsageBody | None = None
    error: ErrorBody | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    previous_response_id: str | None = None
    parallel_tool_calls: bool = True
    tool_choice: Any = "auto"
    tools: Sequence[Any] = ()
    store: bool | None = None
    service_tier: str | UnsetType = UNSET  # that the provider used; before it is known, the one asked for

    @property
    def output_text(self) -> str:
        """The text of the answer."""
        parts = [part for item in self.output if isinstance(item, OutputMessage) for part in item.content]
        return "".join(part.text for part in parts if isinstance(part, OutputText))


def call_item(item_id: str, call: ToolCall, status: str) -> CallItem:
    """Return a tool call as an item."""
    make = CustomCall if call.is_custom else FunctionCall
    return make(item_id, call.id, call.name, call.arguments, status, call.namespace or UNSET)


_SECRET = ("authorization", "headers")  # of an MCP server: for the provider alone, which does not show them either


def tools_of(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return tools as the Responses API shows them: those of a namespace as one."""
    shown: list[dict[str, Any]] = []
    inner: dict[str, list[dict[str, Any]]] = {}
    for tool in tools:
        if tool.hosted is not None:
            shown.append({name: value for name, value in tool.hosted.fields.items() if name not in _SECRET})
        elif not tool.namespace:
            shown.append(_tool(tool))
        else:
            if tool.namespace not in inner:
                inner[tool.namespace] = []
                shown.append(
                    {
                        "type": "namespace",
                        "name": tool.namespace,
                        "description": tool.namespace_description,
                        "tools": inner[tool.namespace],
                    }
                )
            inner[tool.namespace].append(_tool(tool))
    return shown


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.is_custom:
        form = tool.grammar or {"type": "text"}
        return {"type": "custom", "name": tool.name, "description": tool.description, "format": form}
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def tool_choice(choice: ToolChoice | None) -> Any:
    """Return a tool choice as the Responses API shows it."""
    if choice is None:
        return "auto"
    if choice.given is not None:
        return choice.given
    return {"type": "function", "name": choice.name} if choice.mode == "function" else choice.mode


def usage_body(statement: Statement) -> UsageBody:
    """Return a statement as the standard usage object, with the cost added."""
    usage = statement.usage
    return UsageBody(
        input_tokens=usage.input_tokens,
        input_tokens_details=InputDetails(usage.cached_input_tokens, usage.cache_write_tokens or UNSET),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputDetails(usage.reasoning_tokens),
        total_tokens=tokens(usage),
        cost_usd=float(statement.cost),
        saved_usd=float(statement.saved),
        attempts=tuple([attempt(charge) for charge in statement.charges]),
        estimated=usage.estimated or any(charge.usage.estimated for charge in statement.charges),
        trimmed_tokens=statement.trimmed_tokens or UNSET,
        max_output_tokens=statement.max_output_tokens or UNSET,
    )


def attempt(charge: Charge) -> Attempt:
    """Return one charge as the wire shows it."""
    return Attempt(
        charge.model,
        tokens(charge.usage),
        float(charge.cost),
        charge.outcome,
        charge.usage.estimated,
        charge.deployment or UNSET,
    )


def tokens(usage: Usage) -> int:
    """Return the input and output tokens of a call."""
    return usage.input_tokens + usage.output_tokens


def error_body(error: MillraceError) -> ErrorBody:
    """Return an error as the wire shows it."""
    retry: int | UnsetType = UNSET if error.retry_after_ms is None else error.retry_after_ms
    return ErrorBody(error.rule.type, error.code, error.message, error.param, retry)
