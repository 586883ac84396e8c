"""The scripted model: a real server of one of the three APIs, which counts, and checks what comes back to it."""

import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.agents.answers import Call, Fields, Said, Tokens, chunks, message, response
from tests.agents.work import Action, Turn
from tests.support import chat_server, messages_server, messages_wire, responses_server, responses_wire
from tests.support.any_model import AnyServer
from tests.support.messages_server import MessagesServer

CHARACTERS = 4  # of a token
FULL = 980_000  # tokens; as much as the window of any model that the agents know, or more
MODEL = "small-fast-model"  # of the configuration; the large one is never needed
ASIDE = "The wheel"  # what is said to a request without tools: for a title, say
SUMMARY = "The wheel is 12 feet wide, the race is 48 feet long. A look at everything is left to do."
CallOf = Callable[[Action, Fields], Call]  # the body of a request -> the agent's call of an action


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said, and whether it is a turn, a turn that is held, a summary, or an aside."""

    said: Said
    kind: str = "turn"
    fills: bool = False


class Model:
    """Says the turns one after the other. `faults` is what was not as it must be."""

    def __init__(self, call_of: CallOf, compacts: str, keeps: Callable[[bool], bool]) -> None:
        self.faults: list[str] = []
        self.kinds: list[str] = []  # of all answers
        self.server: AnyServer
        self._call_of = call_of
        self._compacts = compacts  # what a request for a summary says at its end
        self._keeps = keeps  # whether the thoughts of an answer come back, by whether it has calls
        self._left: deque[Turn] = deque()
        self._wanted: tuple[str, ...] = ()  # of the next request
        self._thoughts: list[Fields] = []  # that were given away, as they must come back
        self._is_compacted = False  # since the last turn
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
        thoughts = [{"text": one["reasoning_content"]} for one in body["messages"] if one.get("reasoning_content")]
        reply = self._next(body, body["messages"], thoughts)
        written = chunks(reply.said, self._count(body["messages"], reply))
        self._given(reply, [{"text": reply.said.thought}] if reply.said.thought else [])
        self.server.pause_before = len(written) - 1 if reply.kind == "held" else -1
        return written

    def responses(self, body: Fields) -> responses_wire.Answer:
        """Answer a request of the Responses API."""
        reply = self._next(body, body["input"], _reasoning(body["input"]))
        answer = response(reply.said, self._count(body["input"], reply))
        self._given(reply, _reasoning(answer.items))
        self.server.pause_before = len(answer.stream(body)) - 1 if reply.kind == "held" else -1
        return answer

    def messages(self, body: Fields) -> messages_wire.Answer:
        """Answer a request of the Messages API, whose server counts by itself."""
        blocks = [block for one in body["messages"] if isinstance(one["content"], list) for block in one["content"]]
        reply = self._next(body, body["messages"], _thinking(blocks))
        answer = replace(message(reply.said), counts={"input_tokens": FULL} if reply.fills else {})
        self._given(reply, _thinking(answer.content))
        self.server.pause_before = len(answer.stream(body)) - 2 if reply.kind == "held" else -1
        return answer

    def used(self) -> list[Tokens]:
        """Return what each answer that came to its end has used."""
        if isinstance(self.server, MessagesServer):
            counted = [_tokens_of(answer.usage) for answer in self.server.answered]
        else:
            counted = self._counted
        return [tokens for tokens, kind in zip(counted, self.kinds, strict=True) if kind != "held"]

    def _next(self, body: Fields, said_before: list[Fields], thoughts: list[Fields]) -> Reply:
        """Look at a request, and say what comes next."""
        reply = self._reply(body, said_before)
        self.kinds.append(reply.kind)
        if body["model"] != MODEL:
            self.faults.append(f"a {reply.kind} is asked of {body['model']}")
        if self._is_compacted and reply.kind == "turn":  # the agent may have kept some of the latest
            self._thoughts = self._thoughts[len(self._thoughts) - len(thoughts) :]
            self._is_compacted = False
        if reply.kind in ("turn", "held") and thoughts != self._thoughts:  # not to the byte, or not all
            missing = [thought for thought in self._thoughts if thought not in thoughts]
            others = [thought for thought in thoughts if thought not in self._thoughts]
            self.faults.append(f"answer {len(self.kinds)}: the thoughts {missing} did not come back, but {others}")
        return reply

    def _reply(self, body: Fields, said_before: list[Fields]) -> Reply:
        if self._compacts and self._compacts in json.dumps(said_before[-1]):
            return Reply(Said(text=SUMMARY), "summary")
        if not body.get("tools"):
            schema = _schema_of(body)
            words = ASIDE if schema is None else json.dumps(dict.fromkeys(schema["properties"], ASIDE))
            return Reply(Said(text=words), "aside")
        asked = json.dumps(said_before, ensure_ascii=False)
        self.faults += [f"{text!r} did not come back" for text in self._wanted if text not in asked]
        if not self._left:
            self.faults.append(f"one request more than there are turns: {asked[-300:]}")
            return Reply(Said(text="There is no more to say."), "aside")
        turn = self._left.popleft()
        self._wanted = turn.then
        calls = tuple(self._call_of(action, body) for action in turn.actions)
        said = Said(thought=turn.thought, text=turn.text, calls=calls)
        return Reply(said, "held" if turn.is_held else "turn", turn.fills)

    def _given(self, reply: Reply, thoughts: list[Fields]) -> None:
        """Keep what must come back: the thoughts of all turns, if the agent has not compacted its history."""
        if reply.kind == "turn" and self._keeps(bool(reply.said.calls)):
            self._thoughts += thoughts
        self._is_compacted |= reply.kind == "summary"

    def _count(self, asked: list[Fields], reply: Reply) -> Tokens:
        """Count an answer; what a request has in common with the one before was in the cache."""
        text = json.dumps(asked)
        pairs = zip(text, self._before, strict=False)
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        self._before = text
        words = json.dumps([reply.said.thought, reply.said.text, [call.as_function for call in reply.said.calls]])
        input_ = FULL if reply.fills else len(text) // CHARACTERS + 1
        tokens = Tokens(input_, len(words) // CHARACTERS + 1, common // CHARACTERS)
        self._counted.append(tokens)
        return tokens


@asynccontextmanager
async def modelling(api: str, model: Model) -> AsyncIterator[None]:
    """Serve a model on a free port; `api` is the word of a configuration."""
    servers: dict[str, Any] = {
        "openai": lambda: chat_server.completing(model.chat),
        "responses": lambda: responses_server.responding(model.responses),
        "anthropic": lambda: messages_server.messaging(model.messages, most_output=128_000),
    }
    async with servers[api]() as server:
        model.server = server
        yield


def _tokens_of(usage: Fields) -> Tokens:
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    return Tokens(usage["input_tokens"] + read + written, usage["output_tokens"], read, written)


def _reasoning(items: Sequence[Fields]) -> list[Fields]:
    """Return the reasoning items, without what is not theirs: an id and a status, which no one must send back."""
    found = [item for item in items if item.get("type") == "reasoning"]
    return [{name: value for name, value in item.items() if name not in ("id", "status")} for item in found]


def _thinking(blocks: Sequence[Fields]) -> list[Fields]:
    return [block for block in blocks if block["type"] in ("thinking", "redacted_thinking")]


def _schema_of(body: Fields) -> Any:
    """Return the schema of the answer that a request declares, if it does."""
    declared = (body.get(name) or {} for name in ("response_format", "text", "output_config"))
    forms = (one.get("json_schema") or one.get("format") for one in declared)
    return next((form["schema"] for form in forms if form and "schema" in form), None)
