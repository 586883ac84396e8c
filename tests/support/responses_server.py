"""A server of the Responses API that follows a script. It refuses what the real one refuses, in its words."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from tests.support.responses_wire import Answer, Fields
from tests.support.scripted_http import ScriptedServer, serving

Turn = Callable[[Fields], Answer]  # the body of a request -> what is answered

KNOWN = {*ResponseCreateParamsBase.__annotations__, "stream"}
_FIELDS = {  # of the items of an input, by type; those in capitals are required
    "message": "ROLE CONTENT type status phase id",
    "function_call": "CALL_ID NAME ARGUMENTS type id status namespace caller async",
    "function_call_output": "CALL_ID OUTPUT type id status name namespace caller",
    "custom_tool_call": "CALL_ID NAME INPUT type id status namespace caller async",
    "custom_tool_call_output": "CALL_ID OUTPUT type id caller",
    "reasoning": "SUMMARY type id content encrypted_content status",
    "web_search_call": "ACTION type id status",
    "image_generation_call": "ID type result status",
}
_PARTS = {
    "user": ("input_text", "input_image", "input_file", "input_audio"),
    "assistant": ("output_text", "refusal"),
    "tool": ("input_text", "input_image", "input_file"),
}
_CALLS = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}


class RefusedError(Exception):
    """Why a request is refused."""

    def __init__(self, words: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(words)
        self.words, self.param, self.code, self.status = words, param, code, status


class ResponsesServer(ScriptedServer):
    """One server. It remembers what it was asked, what it has issued, and what it has refused."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn
        self.issued: set[str] = set()  # encrypted content

    def check(self, body: Fields) -> None:
        """Raise `RefusedError` for what the API does not take."""
        for name in body.keys() - KNOWN:
            raise RefusedError(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        cap = body.get("max_output_tokens")
        if cap is not None and cap < 16:
            words = f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {cap}"
            raise RefusedError(f"{words} instead.", "max_output_tokens", "integer_below_min_value")
        items = [{"role": "user", "content": body["input"]}] if isinstance(body["input"], str) else body["input"]
        for index, item in enumerate(items):
            self._check_item(item, f"input[{index}]", is_stored=body.get("store") is not False)
        calls = {(item.get("type"), item["call_id"]) for item in items if "call_id" in item}
        for kind, result in _CALLS.items():
            of_calls, of_results = ({id_ for of, id_ in calls if of == one} for one in (kind, result))
            for id_ in of_calls - of_results:
                raise RefusedError(f"No tool output found for {kind.replace('_', ' ')} {id_}.", "input")
            for id_ in of_results - of_calls:
                raise RefusedError(f"No tool call found for {result.replace('_', ' ')} with call_id {id_}.", "input")
        for index, tool in enumerate(body.get("tools", ())):
            if tool["type"] == "namespace" and "description" not in tool:
                raise RefusedError("Missing required parameter.", f"tools[{index}].description")

    def _check_item(self, item: Fields, path: str, *, is_stored: bool) -> None:
        kind = item.get("type", "message")
        if kind not in _FIELDS:
            return
        fields = _FIELDS[kind].split()
        for name in (field.lower() for field in fields if field.isupper() and field.lower() not in item):
            words = f"Missing required parameter: '{path}.{name}'."
            raise RefusedError(words, f"{path}.{name}", "missing_required_parameter")
        for name in item.keys() - {field.lower() for field in fields}:
            raise RefusedError(f"Unknown parameter: '{path}.{name}'.", f"{path}.{name}", "unknown_parameter")
        if kind == "reasoning":
            self._check_reasoning(item, is_stored=is_stored)
        content = item.get("content") if kind == "message" else item.get("output")
        said_by = str(item.get("role", "tool"))
        role = "user" if said_by in ("developer", "system") else said_by
        for at, part in enumerate(content if isinstance(content, list) else ()):
            if part["type"] not in _PARTS[role]:
                words = f"Invalid value: '{part['type']}'. Supported values are: {_PARTS[role]}"
                raise RefusedError(words, f"{path}.content[{at}]", "invalid_value")

    def _check_reasoning(self, item: Fields, *, is_stored: bool) -> None:
        if not is_stored and "id" in item:
            words = f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false."
            raise RefusedError(words, "input", None, 404)
        encrypted = item.get("encrypted_content")
        if encrypted and encrypted not in self.issued:
            words = f"The encrypted content {encrypted[:4]}... could not be verified."
            raise RefusedError(words, None, "invalid_encrypted_content")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        body = await self.body_of(request)
        try:
            self.check(body)
        except RefusedError as refused:
            self.refused.append(refused.words)
            error = {"message": refused.words, "type": "invalid_request_error"}
            error |= {"param": refused.param or "", "code": refused.code or ""}
            return web.json_response({"error": error}, status=refused.status)
        self.asked.append(body)
        self.heads.append(request.headers)
        answer = self.turn(body)
        self.issued |= {item["encrypted_content"] for item in answer.items if item.get("encrypted_content")}
        if not body.get("stream"):
            return web.json_response(answer.whole(body))
        return await self.stream(request, answer.stream(body))


@asynccontextmanager
async def responding(turn: Turn) -> AsyncIterator[ResponsesServer]:
    """Run a server on a free port; its URL is that of a configuration."""
    server = ResponsesServer(turn)
    async with serving(server, {"/v1/responses": server.answer}):
        yield server


def always(*items: Fields, **fields: Any) -> Turn:
    """Return a turn that always answers with these items."""
    return lambda _: Answer(items=items, **fields)
