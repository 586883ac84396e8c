"""What each provider refuses of a request, and in which words."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Body = dict[str, Any]
STANDARD = {"model", "messages", "stream", "temperature", "top_p", "response_format", "tools", "tool_choice", "stop"}
STANDARD |= {"seed", "n", "reasoning_effort", "frequency_penalty", "presence_penalty"}
OPENAI = STANDARD | {"max_completion_tokens", "stream_options", "verbosity", "parallel_tool_calls", "user", "store"}
OPENAI |= {"metadata", "service_tier", "prompt_cache_key", "safety_identifier", "logit_bias", "logprobs"}


@dataclass(slots=True)
class RefusedError(Exception):
    """A refusal: its words, and what the provider says beside them."""

    words: str
    status: int = 400
    kind: str = "invalid_request_error"
    code: Any = None
    place: tuple[Any, ...] = ()  # of a field that is unknown


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one provider takes. None: it does not look."""

    fields: set[str] | None = None
    of_messages: dict[str, set[str]] | None = None  # by role
    of_calls: frozenset[str] | None = None
    roles: frozenset[str] = frozenset({"system", "user", "assistant", "tool"})
    images: str = "any"  # data: no other URL; none
    ids: str = r".*"
    ids_refusal: str = ""
    null_content: bool = True  # of an answer that only calls
    blank_content: bool = True
    tool_names: bool = False
    reasoning: str = "ignored"  # or: calls, all (must be there), refused
    strict_schemas: bool = False
    answers_tools: bool = True  # after a tool's result only an answer may come
    unknown: Callable[[tuple[Any, ...]], RefusedError] = field(
        default=lambda place: RefusedError(f"Unknown parameter: '{_path(place)}'.", code="unknown_parameter")
    )


def check(rules: Rules, body: Body) -> None:
    """Raise `RefusedError` for the first thing that this provider does not take."""
    for fault in (*_fields(rules, body), *_messages(rules, body["messages"]), *_tools(rules, body)):
        raise fault


def _path(place: tuple[Any, ...]) -> str:
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, place)))


def _fields(rules: Rules, body: Body) -> Iterator[RefusedError]:
    if "max_tokens" in body and rules.fields is not None and "max_tokens" not in rules.fields:
        yield RefusedError(
            "Unsupported parameter: 'max_tokens' is not supported with this model."
            " Use 'max_completion_tokens' instead.",
            code="unsupported_parameter",
        )
    if rules.fields is not None:
        yield from (rules.unknown((name,)) for name in body if name not in rules.fields)
    if "tools" not in body:
        yield from (
            RefusedError(f"'{name}' is only allowed when 'tools' are specified.") for name in _OF_TOOLS & body.keys()
        )


_OF_TOOLS = {"tool_choice", "parallel_tool_calls"}


def _messages(rules: Rules, messages: list[Body]) -> Iterator[RefusedError]:
    open_calls: set[str] = set()
    had_calls = any(message.get("tool_calls") for message in messages)
    before = ""
    for at, message in enumerate(messages):
        role = message["role"]
        if role not in rules.roles:
            yield RefusedError(f"messages[{at}].role: unknown variant `{role}`, expected one of {sorted(rules.roles)}")
        if rules.of_messages is not None:
            yield from (
                rules.unknown(("messages", at, name)) for name in message if name not in rules.of_messages[role]
            )
        if role == "tool":
            if message["tool_call_id"] not in open_calls:
                yield RefusedError(
                    "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                )
            open_calls.discard(message["tool_call_id"])
            if rules.tool_names and not message.get("name"):
                yield RefusedError(
                    f"* GenerateContentRequest.contents[{at}].parts[0].function_response.name: Name cannot be empty.\n"
                )
        elif open_calls:
            yield RefusedError("An assistant message with 'tool_calls' must be followed by tool messages")
        if before == "tool" and role == "user" and not rules.answers_tools:
            yield RefusedError(
                "Unexpected role 'user' after role 'tool'", kind="invalid_request_message_order", code="3230"
            )
        before = role
        yield from _content(rules, message, at)
        if role == "assistant":
            yield from _answer(rules, message, at, had_calls=had_calls)
            open_calls |= {call["id"] for call in message.get("tool_calls") or ()}
    if before not in ("user", "tool"):
        yield RefusedError(f"Expected last role User or Tool for serving but got {before}")


def _answer(rules: Rules, message: Body, at: int, *, had_calls: bool) -> Iterator[RefusedError]:
    calls = message.get("tool_calls") or ()
    for number, call in enumerate(calls):
        if rules.of_calls is not None:
            place = ("messages", at, "tool_calls", number)
            yield from (rules.unknown((*place, name)) for name in call if name not in rules.of_calls)
        if not re.fullmatch(rules.ids, call["id"]):
            yield RefusedError(rules.ids_refusal.format(id=call["id"], at=at, number=number), code="3280")
    if calls and message["content"] is None and not rules.null_content:
        yield RefusedError("Invalid request content: Each message must have at least one content element.")
    if calls and message["content"] == "" and not rules.blank_content:
        yield RefusedError("Invalid request: text content is empty")
    if not calls and not message["content"]:
        yield RefusedError(f"Invalid request: the message at position {at} with role 'assistant' must not be empty")
    thought = message.get("reasoning_content")
    if rules.reasoning == "calls" and calls and not thought:
        yield RefusedError(
            f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {at}"
        )
    if rules.reasoning == "all" and had_calls and not thought:
        yield RefusedError("The `reasoning_content` in the thinking mode must be passed back to the API.")


def _content(rules: Rules, message: Body, at: int) -> Iterator[RefusedError]:
    content = message["content"]
    for part in content if isinstance(content, list) else ():
        if part["type"] != "image_url":
            continue
        if message["role"] != "user":
            yield RefusedError(f"Invalid 'messages[{at}]'. Image URLs are only allowed for messages with role 'user'.")
        if rules.images == "none":
            yield RefusedError(
                "Failed to deserialize the JSON body into the target type: "
                f"messages[{at}]: unknown variant `image_url`, expected `text`"
            )
        if rules.images == "data" and not part["image_url"]["url"].startswith("data:image/"):
            yield RefusedError("invalid image input")


def _tools(rules: Rules, body: Body) -> Iterator[RefusedError]:
    for tool in body.get("tools", ()):
        function = tool["function"]
        schema = function.get("parameters", {})
        if rules.strict_schemas and function.get("strict") and schema.get("additionalProperties") is not False:
            yield RefusedError(
                f"Invalid schema for function '{function['name']}':"
                " In context=(), 'additionalProperties' is required to be supplied and to be false.",
                code="invalid_function_parameters",
            )


def _unsupported(place: tuple[Any, ...]) -> RefusedError:  # Groq
    if place[0] != "messages":
        return RefusedError(f"property '{place[0]}' is unsupported")
    at = f"'messages.{place[1]}'"
    return RefusedError(
        f"{at} : for 'role:assistant' the following must be satisfied[({at} : property '{place[-1]}' is unsupported)]"
    )


def _of(system: str, user: str, assistant: str, tool: str) -> dict[str, set[str]]:
    given = {"system": system, "user": user, "assistant": assistant, "tool": tool}
    return {role: {"role", "content", *names.split()} for role, names in given.items()}


_OPENAI = Rules(
    fields=OPENAI,
    of_messages=_of("name", "name", "name tool_calls refusal audio", "tool_call_id"),
    of_calls=frozenset({"id", "type", "function"}),
    roles=frozenset({"system", "developer", "user", "assistant", "tool"}),
    ids=r".{1,40}",
    ids_refusal="Invalid 'messages[{at}].tool_calls[{number}].id': string too long."
    " Expected a string with maximum length 40.",
    strict_schemas=True,
)
RULES: dict[str, Rules] = {
    "openai": _OPENAI,
    "azure": replace(
        _OPENAI,
        fields=OPENAI - {"parallel_tool_calls"},
        unknown=lambda place: RefusedError(f"Unrecognized request argument supplied: {place[-1]}"),
    ),
    "gemini": Rules(
        fields=STANDARD | {"max_tokens", "max_completion_tokens", "stream_options"},
        of_messages=_of("name", "name", "name tool_calls extra_content", "name tool_call_id"),
        of_calls=frozenset({"id", "type", "function", "extra_content"}),
        images="data",
        tool_names=True,
        unknown=lambda place: RefusedError(
            f'Invalid JSON payload received. Unknown name "{place[-1]}": Cannot find field.'
        ),
    ),
    "xai": Rules(
        of_messages=_of("", "name", "tool_calls refusal reasoning_content", "tool_call_id"),
        null_content=False,
        unknown=lambda place: RefusedError("Only messages of role 'user' can have a name."),
    ),
    "deepseek": Rules(images="none", reasoning="all"),
    "mistral": Rules(
        fields=STANDARD | {"max_tokens", "parallel_tool_calls", "random_seed", "prompt_cache_key"},
        of_messages=_of("", "", "tool_calls prefix", "name tool_call_id"),
        of_calls=frozenset({"id", "type", "function", "index"}),
        ids=r"[A-Za-z0-9]{9}",
        ids_refusal="Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9.",
        answers_tools=False,
        unknown=lambda place: RefusedError("Extra inputs are not permitted", 422, "extra_forbidden", place=place),
    ),
    "groq": Rules(
        fields=(OPENAI | {"max_tokens"}) - {"store", "prompt_cache_key", "logprobs", "logit_bias"},
        of_messages=_of("", "", "tool_calls reasoning", "tool_call_id"),
        of_calls=frozenset({"id", "type", "function"}),
        unknown=_unsupported,
    ),
    "kimi": Rules(images="data", blank_content=False, reasoning="calls"),
    "openrouter": Rules(ids=_OPENAI.ids, ids_refusal=_OPENAI.ids_refusal),
    "together": Rules(),
    "vllm": Rules(),
    "ollama": Rules(images="data"),
    "llamacpp": Rules(),
}
