"""Conversations (PROTOCOL.md, Conversations): what a request continues, and what is kept for the next one."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace import log
from millrace.dialects.responses import body_of
from millrace.errors import MillraceError
from millrace.ports import Archive
from millrace.runs.run import Run
from millrace.runs.runs import Runs
from millrace.types import Message, Request, Status, StoredResponse
from millrace.wire import items, limits, responses as wire, stored_items, turns

PARAM = "previous_response_id"
MAX_LINEAGE = 512  # earlier responses that are looked at, for items that a request brings twice


class _Shown(Struct):
    """What is read again of a stored response's body."""

    status: str
    output: list[msgspec.Raw]
    previous_response_id: str | None = None
    metadata: dict[str, str] = {}


class Conversations:
    """Responses are in memory for a while, and on disk if their request said `store: true`."""

    def __init__(self, runs: Runs, archive: Archive, *, max_bytes: int = limits.MAX_MESSAGE_BYTES) -> None:
        self._runs = runs
        self._archive = archive
        self._max_bytes = max_bytes  # of all that the references of one request stand for

    async def continued(self, request: Request, last: Run | None) -> tuple[tuple[Message, ...], str]:
        """Return a request's messages after those of the conversation it continues, and that one's session.

        `last` is its lane's last run.
        """
        before, session = await self._before(request, last)
        own = 0 if request.instructions is None else 1  # instructions are not carried over
        messages = (*request.prompt.messages[:own], *before, *request.prompt.messages[own:])
        _check_calls(request.prompt.messages, messages)
        return messages, session

    async def resolved(self, request: Request, last: Run | None) -> tuple[Message, ...]:
        """Return a request's messages with the items that it refers to; `last` is its lane's last run.

        What the conversation that it continues brings too is left out, so that the model gets it once. Raises
        `item_not_found`, or `message_too_big` if they are longer together than a request may be.
        """
        pieces: list[Message] = []
        known: dict[str, dict[str, Message]] = {}  # by response
        named: set[str] = set()
        size = 0
        carried = await self._carried(request, last)
        for piece in request.prompt.messages:
            if piece.role == turns.REFERENCE:
                if piece.text in named:
                    raise MillraceError("invalid_request", f"{piece.name}: it is named twice", param=piece.name)
                named.add(piece.text)
                response_id = stored_items.response_of(piece.text)
                piece = await self._item(request.tenant, piece, last, known)  # noqa: PLW2901 - what it stands for
                if response_id in carried:
                    continue
                size += piece.memory_bytes
                if size > self._max_bytes:
                    message = f"input: what it refers to is longer than {self._max_bytes} bytes"
                    raise MillraceError("message_too_big", message, param="input")
            pieces.append(piece)
        messages = turns.assembled(pieces)
        if request.generate:
            items.check_answerable(messages, "input")
        if request.previous_response_id is None:
            _check_calls(messages, messages)
        return messages

    async def input_items(self, tenant: str, response_id: str) -> dict[str, Message]:
        """Return what a response was made from, by the ids of the items. Raises `response_not_found`."""
        found = await self._kept(tenant, response_id, None)
        if found is None:
            raise not_found(response_id)
        asked, _ = found
        if not asked:
            message = f"{response_id[:80]!r} ended without an answer, so its input is not kept"
            raise MillraceError("response_not_found", message, param="response_id")
        return stored_items.input_pieces(response_id, asked)

    def remember(self, run: Run) -> None:
        """Write a response that has ended to disk, if its request says so."""
        if run.request.store and run.response.ended is not None:
            body = wire.encode(body_of(run.response, run.created_at))
            stored = StoredResponse(
                id=run.request.id,
                tenant=run.request.tenant,
                conversation=_conversation(run) if run.has_answer else (),
                body=body,
            )
            self._archive.store(stored)

    def run(self, tenant: str, response_id: str) -> Run | None:
        """Return a tenant's run by its id. With `store: false` it can be found only while it runs."""
        run = self._runs.find(tenant, response_id)
        return None if run is not None and run.request.store is False and run.is_over else run

    async def body(self, tenant: str, response_id: str) -> bytes:
        """Return a response as JSON; raises `response_not_found`."""
        run = self.run(tenant, response_id)
        if run is not None and run.response.started_at is not None:
            return wire.encode(body_of(run.response, run.created_at))
        stored = await self._archive.find(tenant, response_id)
        if stored is None:
            raise not_found(response_id)
        return stored.body

    async def delete(self, tenant: str, response_id: str) -> None:
        """Delete an ended response on disk, then in memory. Raises `response_not_found`, or `overloaded` if it cannot.

        On disk first: if that fails it can be tried again.
        """
        run = self._runs.find(tenant, response_id)
        if run is not None and not run.is_over:
            raise MillraceError("invalid_request", "it is still running; cancel it first", param="response_id")
        if not await self._archive.delete(tenant, response_id) and run is None:
            raise not_found(response_id)
        if run is not None:
            self._runs.kept.forget(response_id)

    async def _carried(self, request: Request, last: Run | None) -> set[str]:
        """Return which of the responses that a request refers to are part of the conversation that it continues."""
        references = (piece.text for piece in request.prompt.messages if piece.role == turns.REFERENCE)
        named = {response_id for item_id in references if (response_id := stored_items.response_of(item_id))}
        carried: set[str] = set()
        earlier = request.previous_response_id if named else None
        for _ in range(MAX_LINEAGE):
            if earlier is None:
                break
            if earlier in named:
                named.remove(earlier)
                carried.add(earlier)
            earlier = await self._previous(request.tenant, earlier, last) if named else None
        return carried

    async def _previous(self, tenant: str, response_id: str, last: Run | None) -> str | None:
        """Return the id of the response that a response continues; None if it continues none, or is not kept."""
        run = last if last is not None and last.request.id == response_id else self._runs.find(tenant, response_id)
        if run is not None:
            return run.request.previous_response_id
        stored = await self._archive.find(tenant, response_id)
        return None if stored is None else msgspec.json.decode(stored.body, type=_Shown).previous_response_id

    async def _item(
        self, tenant: str, reference: Message, last: Run | None, known: dict[str, dict[str, Message]]
    ) -> Message:
        """Return the item that a reference names; `known` has those of the responses that were looked at."""
        item_id, path = reference.text, reference.name
        response_id = stored_items.response_of(item_id)
        if response_id is not None and response_id not in known:
            known[response_id] = {}
            found = await self._kept(tenant, response_id, last)
            if found is not None:
                asked, answer = found
                known[response_id] = stored_items.input_pieces(response_id, asked)
                known[response_id] |= stored_items.output_pieces(response_id, answer) if answer else {}
        item = known.get(response_id or "", {}).get(item_id)
        if item is None:
            message = f"{path}: {item_id[:80]!r} is no item of a response that is kept (any more); send the item itself"
            raise MillraceError("item_not_found", message, param=path)
        return item

    async def _kept(
        self, tenant: str, response_id: str, last: Run | None
    ) -> tuple[tuple[Message, ...], Message | None] | None:
        """Return what a response was asked, without its instructions, and its answer; None if it is not kept."""
        run = last if last is not None and last.request.id == response_id else self.run(tenant, response_id)
        if run is not None:
            return _asked(run), _answer(run) if run.has_answer else None
        stored = await self._archive.find(tenant, response_id)
        return None if stored is None else _parted(stored)

    async def _before(self, request: Request, last: Run | None) -> tuple[tuple[Message, ...], str]:
        previous_id = str(request.previous_response_id)
        if last is not None and last.request.id == previous_id:
            return _checked(last), last.request.session
        run = self._runs.find(request.tenant, previous_id)
        if run is not None and run.request.store is not False:
            return _checked(run), run.request.session
        stored = await self._archive.find(request.tenant, previous_id)
        if stored is None:
            raise _unknown(previous_id, "is not kept (any more); send the whole conversation as input")
        if not stored.conversation:
            raise _unknown(previous_id, "has no answer to go on from")
        shown = msgspec.json.decode(stored.body, type=_Shown)
        return stored.conversation, shown.metadata.get("millrace.session", previous_id)


def not_found(response_id: str) -> MillraceError:
    """Return the error for an id that names nothing of this tenant."""
    return MillraceError("response_not_found", f"{response_id[:80]!r} is not a response of yours", param="response_id")


def _checked(run: Run) -> tuple[Message, ...]:
    if run.response.ended is None:
        raise _unknown(run.request.id, "has not ended; ask in the same lane (stream_id), or when it has")
    if not run.has_answer:
        raise _unknown(run.request.id, f"ended as {run.response.ended.status} and has no answer to go on from")
    return _conversation(run)


def _conversation(run: Run) -> tuple[Message, ...]:
    answer = _answer(run)
    return (*_asked(run), *((answer,) if answer else ()))


def _asked(run: Run) -> tuple[Message, ...]:
    return run.request.prompt.messages[0 if run.request.instructions is None else 1 :]


def _answer(run: Run) -> Message | None:
    """Return the answer of a run that has one; None if it says nothing."""
    answer = run.response.message()
    if run.response.ended is not None and not run.response.ended.accepted:
        answer = replace(answer, calls=())  # a call that was cut off was never shown, so it cannot have a result
    has_done = any(not one.is_thought for one in answer.sealed)
    return answer if answer.parts or answer.calls or answer.refusal or has_done else None


def _parted(stored: StoredResponse) -> tuple[tuple[Message, ...], Message | None]:
    """Return what a stored response was asked, and its answer: the last message, unless it has none.

    One that is complete and has no output was asked for with `generate: false`, or answered with nothing.
    """
    conversation = stored.conversation
    if not conversation or conversation[-1].role != "assistant":
        return conversation, None
    shown = msgspec.json.decode(stored.body, type=_Shown)
    if shown.status == Status.COMPLETED and not shown.output:
        return conversation, None
    return conversation[:-1], conversation[-1]


def _check_calls(own: Iterable[Message], messages: Iterable[Message]) -> None:
    """Raise `invalid_request` if a tool's output of the request belongs to no call of the conversation."""
    called = {call.id for message in messages for call in message.calls}
    for message in own:
        if message.call_id is not None and message.call_id not in called:
            error = f"input: call_id {message.call_id[:80]!r} belongs to no tool call of this conversation"
            raise MillraceError("invalid_request", error, param="input")


def _unknown(response_id: str, why: str) -> MillraceError:
    log.get().debug("conversation not continued", id=response_id)
    return MillraceError("previous_response_not_found", f"{PARAM}: {response_id[:80]!r} {why}", param=PARAM)
