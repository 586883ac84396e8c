"""Messages -> the items of a request's input. No I/O."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from millrace.types import CACHE_CONTROL, Api, Media, Message, Part, Path, Sealed, Tool, ToolCall
from millrace.upstreams import foreign
from millrace.upstreams.quirks import Quirks

OWN_FIELDS = frozenset({"caller", "async"})  # beside a call, and wanted back with it
PHASE = "phase"  # of a message, and wanted back with it: whether it is the answer, or what is said on the way
ENCRYPTED = "encrypted_content"
LONGEST_ID = 64  # characters of a call's id
# Items whose id only tells where a provider has stored them. It is not asked to, and refuses an id that it cannot find;
# all that it needs is in the item. The ids of others are part of what they say.
_FOUND_BY_ID = frozenset({"reasoning", "compaction", "web_search_call", "local_shell_call"})


class Input:
    """The items of one request. `lost` are the names of what has no place in it."""

    def __init__(self, messages: Sequence[Message], quirks: Quirks) -> None:
        self.lost: list[str] = []
        self._quirks = quirks
        self._custom = {call.id for message in messages for call in message.calls if call.is_custom}
        self.items = [item for message in messages for item in self._items(message)]

    def _items(self, message: Message) -> Iterator[dict[str, Any]]:
        if message.name:
            self.lost.append(f"{message.role}.name")
        self.lost += [name for name in message.own_fields if name != PHASE]
        if message.reasoning and not any(one.is_thought for one in message.sealed):  # which are told by themselves
            self.lost.append("reasoning")
        if message.is_error:
            message = message.in_words()
        if message.role == "assistant":
            yield from self._turn(message)
            return
        yield from self._sealed(message.sealed)
        if message.is_sealed or (message.tools and not message.parts):
            return
        content = [*self._content(message, "input_text")]
        item = self._with_unread({"content": content}, message)
        if message.call_id is None:
            role = self._quirks.system_role if message.role == "system" else message.role
            yield {"type": "message", "role": role, **item}
            return
        del item["content"]
        kind = "custom_tool_call_output" if message.call_id in self._custom else "function_call_output"
        is_plain = all(part.keys() == {"type", "text"} for part in content)
        output = "".join(part["text"] for part in content) if is_plain else content
        yield {"type": kind, "call_id": _call_id(message.call_id), "output": output, **item}

    def _turn(self, message: Message) -> Iterator[dict[str, Any]]:
        """Yield the items of an assistant's turn: its text and its calls, and between them what is sealed."""
        content = [*self._content(message, "output_text")]
        calls = [self._call(call) for call in message.calls]
        beside = self._with_unread({"content": content, "tool_calls": calls}, message)
        content += [{"type": "refusal", "refusal": message.refusal}] if message.refusal else []
        del beside["content"], beside["tool_calls"]
        beside |= {PHASE: message.own_fields[PHASE]} if PHASE in message.own_fields else {}
        said = called = 0
        for sealed in (*message.sealed, None):
            until = len(content) if sealed is None else max(said, sealed.parts_before)
            called_until = len(calls) if sealed is None else max(called, sealed.calls_before)
            if content[said:until]:
                yield {"type": "message", "role": "assistant", "content": content[said:until], **beside}
            yield from calls[called:called_until]
            yield from self._sealed(() if sealed is None else (sealed,))
            said, called = until, called_until

    def _sealed(self, blocks: Sequence[Sealed]) -> Iterator[dict[str, Any]]:
        """Yield the items that this API once gave, as it gave them but for ids that tell nothing."""
        for sealed in blocks:
            if sealed.api is not Api.RESPONSES or (ENCRYPTED in sealed.fields and self._quirks.drops_within(ENCRYPTED)):
                self.lost.append(foreign.told(sealed))
            elif sealed.kind in _FOUND_BY_ID:
                yield {name: value for name, value in sealed.fields.items() if name != "id"}
            else:
                yield sealed.fields

    def _call(self, call: ToolCall) -> dict[str, Any]:
        kind, written = ("custom_tool_call", "input") if call.is_custom else ("function_call", "arguments")
        self.lost += [name for name in call.own_fields if name not in OWN_FIELDS]
        return {
            "type": kind,
            "call_id": _call_id(call.id),
            "name": call.name,
            **({"namespace": call.namespace} if call.namespace else {}),
            written: call.arguments,
            **{name: value for name, value in call.own_fields.items() if name in OWN_FIELDS},
        }

    def _content(self, message: Message, kind_of_text: str) -> Iterator[dict[str, Any]]:
        """Yield the parts of a message. Those that only another API understands are told in words, or left out."""
        for part in message.parts:
            if isinstance(part, Media) and part.kind == "block" and part.sealed is not None:
                if part.sealed.api is Api.RESPONSES:
                    yield part.sealed.fields
                elif part.text:
                    yield _part(part.text, kind_of_text)
                else:
                    self.lost.append(foreign.told(part.sealed))
            else:
                yield _part(part, kind_of_text)

    def _with_unread(self, fields: dict[str, Any], message: Message) -> dict[str, Any]:
        return with_unread(fields, message, self._quirks, self.lost)


def with_unread(fields: dict[str, Any], of: Message | Tool, quirks: Quirks, lost: list[str]) -> dict[str, Any]:
    """Return a message or a tool with the client's extras, where they have a place in this API; add others to `lost`.

    Marks for a cache have none.
    """
    for path, value in of.unread:
        # Chat completions have the fields of a function one level deeper.
        place = path[1:] if path[0] == "function" and len(path) > 1 else path
        is_known = of.unread_api is not Api.MESSAGES and path[-1] != CACHE_CONTROL
        if not is_known or quirks.drops_within(path[-1]) or not _put(fields, place, value):
            lost.append(str(path[-1]))
    return fields


def _put(fields: dict[str, Any], path: Path, value: Any) -> bool:
    """Put a value at its place; return whether there is such a place."""
    *parents, name = path
    at: Any = fields
    try:
        for step in parents:
            at = at[step]
    except (KeyError, IndexError, TypeError):
        return False
    if not isinstance(at, dict):
        return False
    at.setdefault(str(name), value)
    return True


def _part(part: Part, kind_of_text: str) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": kind_of_text, "text": part}
    fields: dict[str, Any] = {**part.fields}
    match part.kind:
        case "image":
            fields = {"image_url" if name == "url" else name: value for name, value in fields.items()}
        case "audio":
            fields = {"input_audio": fields}
    return {"type": f"input_{part.kind}", **fields}


def _call_id(given: str) -> str:
    """Return an id that the API takes: the same one, or one made of it."""
    return given if len(given) <= LONGEST_ID else "call_" + hashlib.sha256(given.encode()).hexdigest()[:32]
