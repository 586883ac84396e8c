"""One server with all strict providers, each under its own path. It asks for the weather, then answers.

Its first answer has reasoning and, where the provider has one, a signature; both are known again when they come back.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.strict.rules import RULES, Body, RefusedError, check

ANSWER = "It is 21 degrees in Paris."
THOUGHTS = ("The picture shows Paris. ", "I ask for its weather.")
SKIPPED = "skip_thought_signature_validator"
LARGEST_BODY = 8 * 2**20
# Under which name a provider shows its reasoning. The others show none, or as parts of the content.
SHOWN_AS = {
    **dict.fromkeys(("xai", "deepseek", "kimi", "llamacpp"), "reasoning_content"),
    **dict.fromkeys(("groq", "together", "vllm", "ollama", "openrouter"), "reasoning"),
}
COMES_BACK_AS = {
    **dict.fromkeys(("deepseek", "kimi", "llamacpp"), "reasoning_content"),
    **dict.fromkeys(("vllm", "ollama"), "reasoning"),
}
LEARNED = {"Unrecognized request argument supplied: parallel_tool_calls"}  # old ones at Azure


@dataclass(slots=True)
class Providers:
    """All of them. What was accepted and what was refused, by preset."""

    url: str = ""
    accepted: dict[str, list[Body]] = field(default_factory=lambda: {name: [] for name in RULES})
    refused: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in RULES})
    issued: dict[str, Any] = field(default_factory=dict)  # what went beside a call, by the call's id
    signatures: set[str] = field(default_factory=set)  # of Gemini

    def faults(self) -> list[str]:
        """Return what was refused, and what did not come back in the requests that were taken."""
        refused = {words for words_of_one in self.refused.values() for words in words_of_one} - LEARNED
        return [
            *refused,
            *(
                f"{preset}: {lost} did not come back"
                for preset, bodies in self.accepted.items()
                for body in bodies
                for message in body["messages"]
                if message.get("tool_calls") and (lost := self._lost(preset, message))
            ),
        ]

    def forget(self) -> None:
        """Forget what was accepted and refused."""
        for preset in RULES:
            self.accepted[preset].clear()
            self.refused[preset].clear()

    def _lost(self, preset: str, message: Body) -> str:
        """Return what a provider gave with a call and did not get back; refused is what did not fit."""
        if preset == "gemini":
            extra = message["tool_calls"][0].get("extra_content")
            return "" if extra == self.issued.get(message["tool_calls"][0]["id"]) else "the signature"
        if preset == "openrouter":
            return "" if message.get("reasoning_details") in self.issued.values() else "reasoning_details"
        name = COMES_BACK_AS.get(preset)
        if name is None:
            return " and ".join({"reasoning", "reasoning_content", "reasoning_details"} & message.keys())
        return "" if message.get(name) == "".join(THOUGHTS) else name

    def base_url(self, preset: str) -> str:
        """Return what stands in a configuration."""
        return f"{self.url}/{preset}/v1"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request as its provider would."""
        preset, body = request.match_info["preset"], await request.json()
        try:
            check(RULES[preset], body)
            self._check_what_was_issued(preset, body["messages"])
        except RefusedError as refused:
            self.refused[preset].append(" ".join((refused.words, *map(str, refused.place))))
            return web.json_response(_error(preset, refused), status=refused.status)
        self.accepted[preset].append(body)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in self._said(preset, body):
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    def _check_what_was_issued(self, preset: str, messages: list[Body]) -> None:
        for at, message in enumerate(messages):
            calls = message.get("tool_calls")
            if calls and preset == "gemini":
                google = calls[0].get("extra_content", {}).get("google", {})
                if "thought_signature" not in google:
                    raise RefusedError(
                        "Function call is missing a thought_signature in functionCall parts."
                        f" Additional data, function call `default_api:get_weather` , position {at}."
                    )
                if google["thought_signature"] not in self.signatures | {SKIPPED}:
                    raise RefusedError("Corrupted thought signature.")
            if calls and preset == "openrouter" and message.get("reasoning_details") not in self.issued.values():
                raise RefusedError(
                    "Gemini models require OpenRouter reasoning details to be preserved in each request."
                )

    def _said(self, preset: str, body: Body) -> Iterator[Body]:
        number = sum(map(len, self.accepted.values()))
        usage = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}
        if body["messages"][-1]["role"] == "tool" or "tools" not in body:
            yield _chunk({"role": "assistant", "content": ANSWER})
            yield _chunk({}, "stop", usage=usage)
            return
        for delta in self._reasoning(preset, number):
            yield _chunk(delta)
        id_ = {"mistral": f"id{number:07}", "kimi": f"get_weather:{number}"}.get(preset, f"call_{number:024}")
        call = {"index": 0, "id": id_, "type": "function"}
        if preset == "gemini":
            signature = f"signature {number} =="
            self.signatures.add(signature)
            self.issued[id_] = {"google": {"thought_signature": signature}}
            call["extra_content"] = self.issued[id_]
        if preset == "openrouter":
            self.issued[id_] = [
                {"type": "reasoning.text", "text": "".join(THOUGHTS), "index": 0, "signature": f"signature {number}"},
                {"type": "reasoning.encrypted", "data": "AbCd", "index": 1, "id": f"rs_{number}"},
            ]
        function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
        yield _chunk({"tool_calls": [call | {"function": function}]})
        yield _chunk({}, "tool_calls", usage=usage)

    def _reasoning(self, preset: str, number: int) -> Iterator[Body]:
        for at, thought in enumerate(THOUGHTS):
            if preset == "mistral":
                yield {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]}
            elif preset == "openrouter":
                block = {"type": "reasoning.text", "text": thought, "index": 0}
                signed = {"signature": f"signature {number}"} if at == len(THOUGHTS) - 1 else {}
                yield {"reasoning": thought, "reasoning_details": [block | signed]}
            elif preset in SHOWN_AS:
                yield {SHOWN_AS[preset]: thought}
        if preset == "openrouter":
            yield {
                "reasoning_details": [{"type": "reasoning.encrypted", "data": "AbCd", "index": 1, "id": f"rs_{number}"}]
            }


def _chunk(delta: Body, finish: str | None = None, **fields: Any) -> Body:
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **fields,
    }


def _error(preset: str, refused: RefusedError) -> Any:
    plain = {"message": refused.words, "type": refused.kind, "param": None, "code": refused.code}
    detail = [{"type": refused.kind, "loc": ["body", *refused.place], "msg": refused.words}]
    forms: dict[str, Any] = {
        "gemini": [{"error": {"code": refused.status, "message": refused.words, "status": "INVALID_ARGUMENT"}}],
        "xai": {"code": "Client specified an invalid argument", "error": refused.words},
        "mistral": {"object": "error", **plain} | ({"message": {"detail": detail}} if refused.place else {}),
        "openrouter": {
            "error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": refused.words}}
        },
        "vllm": {"error": plain | {"type": "BadRequestError", "code": refused.status}},
    }
    return forms.get(preset, {"error": plain})


@asynccontextmanager
async def providing() -> AsyncIterator[Providers]:
    """Run them on a free port."""
    providers = Providers()
    application = web.Application(client_max_size=LARGEST_BODY)
    application.router.add_post("/{preset}/v1/chat/completions", providers.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        providers.url = "http://{}:{}".format(*runner.addresses[0])
        yield providers
    finally:
        await runner.cleanup()
