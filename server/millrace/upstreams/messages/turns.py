"""The messages of a prompt -> the system prompt and the turns of the Messages API. No I/O."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from millrace.types import CACHE_CONTROL, Api, Media, Message, Path, Sealed, ToolCall, Unread
from millrace.upstreams.messages.media import source_of
from millrace.upstreams.quirks import SIGNED_THINKING, Quirks
from millrace.upstreams.sent_tools import SentTools

Fields = dict[str, Any]

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESULT = "tool_result"
_OF_A_CALL = ("caller",)  # fields of its own that the API takes back


class Turns:
    """What a prompt becomes: `system` and `turns`, and in `lost` the names of what has no place there.

    Blocks that the API would refuse, because they are empty, are left out.
    """

    __slots__ = ("_quirks", "_tools", "lost", "system", "turns")

    def __init__(self, messages: Sequence[Message], tools: SentTools, quirks: Quirks) -> None:
        self.system: list[Fields] = []
        self.turns: list[Fields] = []
        self.lost: list[str] = []
        self._tools = tools
        self._quirks = quirks
        first = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
        if first == len(messages):  # nobody asks anything, so the instructions are what is asked
            first = max(0, first - 1)
        for message in messages[:first]:
            self.system += self._parts(message)
        for at in range(first, len(messages)):
            self._add(messages[at], messages[at + 1] if at + 1 < len(messages) else None)
        last = self.turns[-1] if self.turns else None
        if last is not None and last["role"] == "assistant" and "text" in last["content"][-1]:
            text = last["content"][-1]["text"]  # the model goes on from there
            last["content"][-1]["text"] = text.rstrip() if isinstance(text, str) else text

    def _add(self, message: Message, follower: Message | None) -> None:
        if message.is_sealed and message.role == "tool":
            self._put("user", [{**one.fields} for one in message.sealed if one.api is Api.MESSAGES])
            return
        if message.name:
            self.lost.append(f"{message.role}.name")
        match message.role:
            case "assistant":
                self._put("assistant", self._answer(message))
            case "tool":
                self._put("user", [self._result(message)])
            case "system" if self._has_place(follower) and (blocks := self._parts(message)):
                self.turns.append({"role": "system", "content": blocks})
            case "system":
                self._put("user", [_as_user(block) for block in self._parts(message)])
            case _:
                self._put("user", self._parts(message))

    def _has_place(self, follower: Message | None) -> bool:
        """Whether instructions may stand here: after what a user says, and in front of an answer."""
        is_after_user = bool(self.turns) and self.turns[-1]["role"] == "user"
        return self._quirks.system_turns and is_after_user and (follower is None or follower.role == "assistant")

    def _put(self, role: str, blocks: list[Fields]) -> None:
        """Add blocks to the last turn, if it is of the same role: turns alternate. Results of tools come first."""
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            content = self.turns[-1]["content"]
            is_result = blocks[0]["type"] == _RESULT
            at = sum(block["type"] == _RESULT for block in content) if is_result else len(content)
            content[at:at] = blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def _parts(self, message: Message) -> list[Fields]:
        """Return a block of each part, without those that are empty."""
        extras = _extras(message, "content")
        blocks = [block for at, part in enumerate(message.parts) for block in self._part(part, extras.get(at, ()))]
        mark = next((value for path, value in message.unread if path == (CACHE_CONTROL,)), None)
        if mark is not None and blocks and message.role != "tool":  # of all, so it stands at their end
            blocks[-1].setdefault(CACHE_CONTROL, mark)
        return blocks

    def _part(self, part: str | Media, extras: Unread) -> Iterator[Fields]:
        if isinstance(part, Media) and part.kind == "block" and part.sealed is not None:
            if part.sealed.api is Api.MESSAGES:
                yield {**part.sealed.fields}
                return
            part = part.text
        if isinstance(part, str):
            if part.strip():
                yield _with({"type": "text", "text": part}, extras)
        else:
            block, lost = source_of(part)
            self.lost += lost
            yield _with(block, extras)

    def _result(self, message: Message) -> Fields:
        fields: Fields = {"type": _RESULT, "tool_use_id": id_of(message.call_id or "")}
        if parts := self._parts(message):
            fields["content"] = parts
        if message.is_error:
            fields["is_error"] = True
        return fields | _beside(message)

    def _answer(self, message: Message) -> list[Fields]:
        """Return the blocks of an answer in the order in which the model has sent them."""
        self._note_what_stays_here(message)
        extras, of_calls = _extras(message, "content"), _extras(message, "tool_calls")
        blocks: list[Fields] = []
        parts = calls = 0
        for one in (*self._sealed(message), None):
            parts_end = len(message.parts) if one is None else one.parts_before
            calls_end = len(message.calls) if one is None else one.calls_before
            for at in range(parts, min(parts_end, len(message.parts))):
                blocks += self._part(message.parts[at], extras.get(at, ()))
            if one is None and message.refusal.strip():
                blocks.append({"type": "text", "text": message.refusal})
            for at in range(calls, min(calls_end, len(message.calls))):
                blocks.append(self._call(message.calls[at], of_calls.get(at, ())))
            parts, calls = max(parts, parts_end), max(calls, calls_end)
            if one is not None:
                _put_sealed(blocks, one)
        return blocks

    def _sealed(self, message: Message) -> Iterator[Sealed]:
        """Yield what only this API understands, without thoughts that the model has refused: another made them."""
        for one in message.sealed:
            if one.api is Api.MESSAGES and not (one.is_thought and self._quirks.drops_within(SIGNED_THINKING)):
                yield one

    def _call(self, call: ToolCall, extras: Unread) -> Fields:
        own_fields = {name: value for name, value in call.own_fields.items() if name in _OF_A_CALL}
        self.lost += call.own_fields.keys() - own_fields.keys()
        sent = self._tools.sent(call)
        use = {"type": "tool_use", "id": id_of(call.id), "name": sent.name, "input": _input(sent.arguments)}
        return _with(use | own_fields, extras)

    def _note_what_stays_here(self, message: Message) -> None:
        """Note the reasoning and the own fields of an answer that this API has not given."""
        self.lost += message.own_fields
        if message.reasoning and not any(one.api is Api.MESSAGES for one in message.sealed):
            self.lost.append("reasoning")


def id_of(given: str) -> str:
    """Return the id of a call as the API takes it: the same one, or one made of it."""
    return given if _ID.fullmatch(given) else "toolu_" + hashlib.sha256(given.encode()).hexdigest()[:32]


def _input(arguments: str) -> Any:
    """Return the arguments of a call as they came. What is no JSON object is put into one: the API takes no other."""
    try:
        given = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {"arguments": arguments}
    return msgspec.Raw(arguments.encode()) if isinstance(given, dict) else {"arguments": given}


def _put_sealed(blocks: list[Fields], sealed: Sealed) -> None:
    """Add a block as it came. Text with citations stands in place of the same text in front of it."""
    fields = sealed.fields
    before = blocks[-1] if blocks else {}
    text = fields.get("text")
    if fields.get("type") == before.get("type") == "text" and isinstance(text, str) and before["text"].endswith(text):
        before["text"] = before["text"].removesuffix(text)
        if not before["text"].strip():
            blocks.pop()
    blocks.append({**fields})


def _extras(message: Message, name: str) -> dict[int, Unread]:
    """Return what a client gives within the parts or the calls of a message, by their index, with paths from there."""
    found: dict[int, list[tuple[Path, Any]]] = {}
    for path, value in _of_this_api(message.unread, message.unread_api):
        if path[0] == name and len(path) > 2:  # noqa: PLR2004 - name and index
            found.setdefault(int(path[1]), []).append((path[2:], value))
    return {at: tuple(extras) for at, extras in found.items()}


def _with(block: Fields, extras: Unread) -> Fields:
    """Return a block with what a client gives within it, where it has such a place."""
    for (*parents, name), value in extras:
        at: Any = block
        for step in parents:
            at = at.get(step) if isinstance(at, dict) else None
        if isinstance(at, dict):
            at.setdefault(name, value)
    return block


def _beside(message: Message) -> Fields:
    """Return the fields beside the result of a tool."""
    unread = _of_this_api(message.unread, message.unread_api)
    return {str(path[0]): value for path, value in unread if len(path) == 1}


def _of_this_api(unread: Unread, api: Api) -> Iterator[tuple[Path, Any]]:
    """Yield what this API understands: of another one only the marks for the cache."""
    return ((path, value) for path, value in unread if api is Api.MESSAGES or path[-1] == CACHE_CONTROL)


def _as_user(block: Fields) -> Fields:
    """Return instructions in the words of a user, marked as what they are."""
    return block | {"text": f"<system>\n{block['text']}\n</system>"}
