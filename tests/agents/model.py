"""The scripted model: a real server of one of the three APIs, which counts, and checks what comes back to it."""

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.agents.answers import Call, Fields, Said, Tokens, chunks, message, response
from tests.agents.work import Action, Turn
from tests.support import chat_server, messages_server, messages_wire, responses_server, responses_wire
from tests.support.any_model import AnyServer
from tests.support.messages_server import MessagesServer

CHARACTERS = 4  # of a token
MODEL = "small-fast-model"  # of the configuration; the large one is never needed
ASIDE = "The wheel"  # what is said to a request with no tools: for a title, say
CallOf = Callable[[Action, Fields], Call]  # the body of a request -> the agent's call of an action


class Model:
    """Says the turns one after the other. `faults` is what was not as it must be."""

    def __init__(self, call_of: CallOf) -> None:
        self.faults: list[str] = []
        self.kinds: list[str] = []  # of all requests: turn, held or aside
        self.turns = 0  # that came to their end
        self.server: AnyServer
        self._call_of = call_of
        self._left: deque[Turn] = deque()
        self._wanted: tuple[str, ...] = ()  # of the next request
        self._thoughts: list[Fields] = []  # that were given away, as they must come back
        self._before = ""  # the text of the request before
        self._counted: list[Tokens] = []  # of all answers

    def go(self, turns: Sequence[Turn]) -> None:
        """Say these turns next."""
        if self._left:
            self.faults.append(f"{len(self._left)} turns were not asked for")
        self._left = deque(turns)
        self._wanted = ()

    def chat(self, body: Fields) -> list[Fields]:
        """Answer a request of chat completions."""
        said, is_held = self._next(body)
        tokens = self._count(body["messages"], said)
        written = chunks(said, tokens)
        self.server.pause_before = len(written) - 1 if is_held else -1
        return written

    def responses(self, body: Fields) -> responses_wire.Answer:
        """Answer a request of the Responses API."""
        came = [item for item in body["input"] if item.get("type") == "reasoning"]
        self._check_thoughts(came, body)
        said, is_held = self._next(body)
        answer = response(said, self._count(body["input"], said))
        if not is_held and body.get("tools"):
            self._thoughts += [_without_id(item) for item in answer.items if item["type"] == "reasoning"]
        self.server.pause_before = len(answer.stream(body)) - 1 if is_held else -1
        return answer

    def messages(self, body: Fields) -> messages_wire.Answer:
        """Answer a request of the Messages API."""
        blocks = [block for one in body["messages"] if isinstance(one["content"], list) for block in one["content"]]
        self._check_thoughts([block for block in blocks if "thinking" in block["type"]], body)
        said, is_held = self._next(body)
        answer = message(said)
        if not is_held and body.get("tools"):
            self._thoughts += [block for block in answer.content if "thinking" in block["type"]]
        self.server.pause_before = len(answer.stream(body)) - 2 if is_held else -1
        return answer

    def used(self) -> list[Tokens]:
        """Return what each answer that came to its end has used."""
        if isinstance(self.server, MessagesServer):  # which counts by itself
            counted = [_tokens_of(answer.usage) for answer in self.server.answered]
        else:
            counted = self._counted
        return [tokens for tokens, kind in zip(counted, self.kinds, strict=True) if kind != "held"]

    def _next(self, body: Fields) -> tuple[Said, bool]:
        if body["model"] != MODEL:
            self.faults.append(f"turn {self.turns} went to {body['model']}")
        if not body.get("tools"):
            self.kinds.append("aside")
            form = _schema_of(body)
            return Said(text=ASIDE if form is None else json.dumps(dict.fromkeys(form["properties"], ASIDE))), False
        asked = json.dumps(body, ensure_ascii=False)
        self.faults += [f"turn {self.turns}: {text!r} did not come back" for text in self._wanted if text not in asked]
        if not self._left:
            self.faults.append(f"one request more than {self.turns}")
            self.kinds.append("aside")
            return Said(text="There is no more to say."), False
        turn = self._left.popleft()
        self._wanted = turn.then
        self.turns += not turn.is_held
        self.kinds.append("held" if turn.is_held else "turn")
        calls = tuple(self._call_of(action, body) for action in turn.actions)
        return Said(thought=turn.thought, text=turn.text, calls=calls), turn.is_held

    def _check_thoughts(self, came: list[Fields], body: Fields) -> None:
        """Note what is not to the byte as it was given, or is missing."""
        if not body.get("tools"):
            return
        wanted = self._thoughts
        if [json.dumps(_without_id(one), sort_keys=True) for one in came] != [
            json.dumps(one, sort_keys=True) for one in wanted
        ]:
            self.faults.append(f"turn {self.turns}: {len(came)} thoughts came back of {len(wanted)}: {came} {wanted}")

    def _count(self, asked: list[Fields], said: Said) -> Tokens:
        """Count an answer; what a request has in common with the one before was in the cache."""
        text = json.dumps(asked)
        common = next((at for at, (a, b) in enumerate(zip(text, self._before, strict=False)) if a != b), 0)
        self._before = text
        words = json.dumps([said.thought, said.text, [call.as_function for call in said.calls]])
        tokens = Tokens(len(text) // CHARACTERS + 1, len(words) // CHARACTERS + 1, common // CHARACTERS)
        self._counted.append(tokens)
        return tokens


@asynccontextmanager
async def modelling(api: str, call_of: CallOf) -> AsyncIterator[Model]:
    """Run one on a free port; `api` is the word of a configuration."""
    model = Model(call_of)
    servers: dict[str, Any] = {
        "openai": lambda: chat_server.completing(model.chat),
        "responses": lambda: responses_server.responding(model.responses),
        "anthropic": lambda: messages_server.messaging(model.messages, most_output=128_000),
    }
    async with servers[api]() as server:
        model.server = server
        yield model


def _tokens_of(usage: Fields) -> Tokens:
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    return Tokens(usage["input_tokens"] + read + written, usage["output_tokens"], read, written)


def _without_id(item: Fields) -> Fields:
    return {name: value for name, value in item.items() if name not in ("id", "status")}


def _schema_of(body: Fields) -> Any:
    """Return the schema of the answer that a request declares, if it does."""
    forms = (body.get("response_format") or {}).get("json_schema"), (body.get("text") or {}).get("format")
    form = next((one for one in (*forms, (body.get("output_config") or {}).get("format")) if one), {})
    return form.get("schema")
