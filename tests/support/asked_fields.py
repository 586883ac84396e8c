"""Fields of requests in each dialect: a name, what is asked with it, and a word of what the model is sent for it.

Without a word it is the name, as a field. A name is a part of what is told of a field that is left out.
"""

from typing import Any

Fields = dict[str, Any]
Asked = tuple[str, Fields, str]

X = "zq7"  # where a text may be anything
HI: Fields = {"role": "user", "content": "Hi"}
IN_CHAT: Fields = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
IN_RESPONSES: Fields = {"type": "function", "name": "look", "parameters": {"type": "object"}}
IN_MESSAGES: Fields = {"name": "look", "input_schema": {"type": "object"}}
SEARCH: Fields = {"type": "web_search", "search_context_size": X}
ALLOWED: Fields = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "look"}}]}
RESULT: Fields = {"type": "tool_result", "tool_use_id": "t", "content": "b"}
PDF: Fields = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}


def _said(*parts: Fields, text: str = "text") -> Fields:
    """Return a question with these parts, and a text after them."""
    return {"role": "user", "content": [*parts, {"type": text, "text": "Hi"}]}


def _part(*parts: Fields) -> Fields:
    return {"messages": [_said(*parts)]}


def _after(**answer: Any) -> Fields:
    return {"messages": [HI, {"role": "assistant"} | answer, HI]}


def _items(*items: Fields) -> Fields:
    return {"input": [HI, *items, {"role": "assistant", "content": "a"}, HI]}


def _blocks(*blocks: Fields) -> Fields:
    return _after(content=[*blocks, {"type": "text", "text": "a"}])


def _called(call: Fields, result: Fields) -> Fields:
    use = {"type": "tool_use", "id": "t", "name": "look", "input": {}} | call
    turns: list[Fields] = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [RESULT | result]}]
    return {"messages": [HI, *turns]}


OF_BOTH: list[Asked] = [
    ("temperature", {"temperature": 0.25}, ""),
    ("top_p", {"top_p": 0.25}, ""),
    ("prompt_cache_key", {"prompt_cache_key": X}, X),
    ("prompt_cache_retention", {"prompt_cache_retention": "24h"}, ""),
    ("safety_identifier", {"safety_identifier": X}, X),
    ("user", {"user": X}, X),
    ("service_tier", {"service_tier": "flex"}, ""),
    ("unheard_of", {"unheard_of": X}, X),
]
OF_CHAT: list[Asked] = [
    *OF_BOTH,
    ("stop", {"stop": [X]}, X),
    ("seed", {"seed": 7}, ""),
    ("presence_penalty", {"presence_penalty": 0.5}, ""),
    ("frequency_penalty", {"frequency_penalty": 0.5}, ""),
    ("logit_bias", {"logit_bias": {"1": 5}}, ""),
    ("logprobs", {"logprobs": True, "top_logprobs": 2}, ""),
    ("verbosity", {"verbosity": "low"}, ""),
    ("reasoning_effort", {"reasoning_effort": "high"}, "effort"),
    ("prediction", {"prediction": {"type": "content", "content": X}}, X),
    ("web_search_options", {"web_search_options": {"search_context_size": X}}, X),
    ("modalities", {"modalities": ["text", "audio"]}, ""),
    ("n", {"n": 2}, ""),
    ("thinking", {"thinking": {"type": "enabled", "budget_tokens": 2048}}, ""),
    ("response_format", {"response_format": {"type": "json_object"}}, "json_object"),
    ("custom", {"tools": [{"type": "custom", "custom": {"name": X}}]}, X),
    ("defer", {"tools": [IN_CHAT | {"defer": X}]}, X),
    ("look", {"tools": [IN_CHAT], "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED}}, ""),
    ("parallel_tool_calls", {"tools": [IN_CHAT], "parallel_tool_calls": False}, "parallel"),
    ("name", {"messages": [HI | {"name": X}]}, X),
    ("detail", _part({"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "high"}}), "high"),
    ("extra", _part({"type": "text", "text": "Hi", "extra": X}), X),
    ("audio", _part({"type": "input_audio", "input_audio": {"data": X, "format": "wav"}}), X),
    ("file", _part({"type": "file", "file": {"file_id": X}}), X),
    ("reasoning", _after(content="a", reasoning_content=X), X),
    ("refusal", _after(content=None, refusal=X), X),
]
GRAMMAR: Fields = {"type": "grammar", "syntax": "lark", "definition": X}
CITATION: Fields = {"type": "url_citation", "url": X}
SHELL: Fields = {"type": "local_shell_call", "id": "l", "call_id": "c", "status": "completed", "action": {}}
CUSTOM: Fields = {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": X}
OF_RESPONSES: list[Asked] = [
    *OF_BOTH,
    ("instructions", {"instructions": X}, X),
    ("verbosity", {"text": {"verbosity": "low"}}, ""),
    ("text.other", {"text": {"other": X}}, X),
    ("truncation", {"truncation": "auto"}, ""),
    ("max_tool_calls", {"max_tool_calls": 3}, ""),
    ("context_management", {"context_management": [{"type": "compaction"}]}, ""),
    ("moderation", {"moderation": {"model": X}}, X),
    ("web_search_call", {"include": ["web_search_call.action.sources"]}, "web_search_call.action.sources"),
    ("top_logprobs", {"include": ["message.output_text.logprobs"], "top_logprobs": 3}, ""),
    ("effort", {"reasoning": {"effort": "high"}}, "effort"),
    ("context", {"reasoning": {"context": "all_turns"}}, "all_turns"),
    ("mode", {"reasoning": {"mode": X}}, X),
    ("reasoning.odd", {"reasoning": {"odd": X}}, X),
    ("background", {"background": True}, ""),
    ("conversation", {"conversation": X}, ""),
    ("prompt", {"prompt": {"id": X}}, ""),
    ("web_search", {"tools": [SEARCH]}, ""),
    ("odd", {"tools": [IN_RESPONSES | {"odd": X}]}, X),
    ("odd", {"tools": [{"type": "namespace", "name": "n", "odd": X, "tools": [IN_RESPONSES]}]}, X),
    ("n", {"tools": [{"type": "namespace", "name": X, "tools": [IN_RESPONSES]}]}, X),
    ("definition", {"tools": [{"type": "custom", "name": "p", "format": GRAMMAR}]}, X),
    ("tool_choice", {"tools": [SEARCH], "tool_choice": {"type": "web_search"}}, ""),
    ("parallel_tool_calls", {"tools": [IN_RESPONSES], "parallel_tool_calls": False}, "parallel"),
    ("tools", {"input": [{"type": "additional_tools", "tools": [{"type": "custom", "name": X}]}, HI]}, X),
    ("encrypted reasoning", _items({"type": "reasoning", "id": "r", "summary": [], "encrypted_content": X}), X),
    ("reasoning", _items({"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": X}]}), X),
    ("web_search_call", _items({"type": "web_search_call", "id": "w", "action": {"query": X}}), X),
    ("compaction", _items({"type": "compaction", "id": "c", "encrypted_content": X}), X),
    ("local_shell_call_output", _items(SHELL, {"type": "local_shell_call_output", "id": "l", "output": X}), X),
    ("phase", _items({"role": "assistant", "content": "a", "phase": "commentary"}), "commentary"),
    (
        "annotations",
        _items({"role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": [CITATION]}]}),
        X,
    ),
    ("part", {"input": [_said({"type": "input_text", "text": "Hi", "part": X}, text="input_text")]}, X),
    (
        "detail",
        {
            "input": [
                _said({"type": "input_image", "image_url": "https://a/b.png", "detail": "high"}, text="input_text")
            ]
        },
        "high",
    ),
    ("custom_tool_call", _items(CUSTOM, {"type": "custom_tool_call_output", "call_id": "c", "output": "b"}), X),
]
OF_MESSAGES: list[Asked] = [
    ("temperature", {"temperature": 0.25}, ""),
    ("top_p", {"top_p": 0.25}, ""),
    ("top_k", {"top_k": 5}, ""),
    ("stop", {"stop_sequences": [X]}, X),
    ("system", {"system": [{"type": "text", "text": X}]}, X),
    ("user_id", {"metadata": {"user_id": X}}, X),
    ("thinking", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 3000}, "summary"),
    ("effort", {"output_config": {"effort": "high"}}, "effort"),
    ("output_config", {"output_config": {"task_budget": {"type": "tokens", "total": 20000}}}, ""),
    ("context_management", {"context_management": {"edits": [{"type": X}]}}, ""),
    ("container", {"container": X}, X),
    ("mcp_servers", {"mcp_servers": [{"type": "url", "url": X, "name": "n"}]}, X),
    ("service_tier", {"service_tier": "standard_only"}, ""),
    ("inference_geo", {"inference_geo": "us"}, ""),
    ("speed", {"speed": "fast"}, ""),
    ("unheard_of", {"unheard_of": X}, X),
    ("web_search", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ""),
    ("odd", {"tools": [IN_MESSAGES | {"odd": X}]}, X),
    ("strict", {"tools": [IN_MESSAGES | {"strict": True}]}, ""),
    (
        "parallel",
        {"tools": [IN_MESSAGES], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        "parallel",
    ),
    ("tool_choice.odd", {"tools": [IN_MESSAGES], "tool_choice": {"type": "auto", "odd": X}}, X),
    ("format.odd", {"output_config": {"format": {"type": "json_schema", "schema": {}, "odd": X}}}, X),
    ("signed thinking", _blocks({"type": "thinking", "thinking": "t", "signature": X}), X),
    ("signed thinking", _blocks({"type": "redacted_thinking", "data": X}), X),
    ("server_tool_use", _blocks({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": X}}), X),
    ("container_upload", _part({"type": "container_upload", "file_id": X}), X),
    ("citations", _part({"type": "document", "source": PDF, "citations": {"enabled": True}}), ""),
    ("context", _part({"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}, "context": X}), X),
    ("document", _part({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": X}}), X),
    (
        "search_result",
        _part({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": X}]}),
        X,
    ),
    ("is_error", _called({}, {"is_error": True}), "The tool failed"),
    ("odd", _called({"odd": X}, {}), X),
    ("odd", _called({}, {"odd": X}), X),
    ("turn", {"messages": [HI | {"turn": X}]}, X),
]
ASKED: dict[str, list[Asked]] = {"chat": OF_CHAT, "responses": OF_RESPONSES, "messages": OF_MESSAGES}
