"""Conversations (PROTOCOL.md, Conversations): what a request continues, and what is kept for the next one."""

from dataclasses import replace

from millrace import log
from millrace.dialects.responses import body_of
from millrace.errors import MillraceError
from millrace.ports import Archive
from millrace.runs.run import Run
from millrace.runs.runs import Runs
from millrace.types import Message, Request, StoredResponse
from millrace.wire import responses as wire

PARAM = "previous_response_id"


class Conversations:
    """Responses are in memory for a while, and on disk if their request said `store: true`."""

    def __init__(self, runs: Runs, archive: Archive) -> None:
        self._runs = runs
        self._archive = archive

    async def continued(self, request: Request, last: Run | None) -> tuple[Message, ...]:
        """Return a request's messages after those of the conversation it continues; `last` is its lane's last run."""
        before = await self._before(request, last)
        own = 0 if request.instructions is None else 1  # instructions are not carried over
        messages = (*request.prompt.messages[:own], *before, *request.prompt.messages[own:])
        called = {call.id for message in messages for call in message.calls}
        for message in request.prompt.messages:
            if message.call_id is not None and message.call_id not in called:
                error = f"input: call_id {message.call_id[:80]!r} belongs to no tool call of this conversation"
                raise MillraceError("invalid_request", error, param="input")
        return messages

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

    async def _before(self, request: Request, last: Run | None) -> tuple[Message, ...]:
        previous_id = str(request.previous_response_id)
        if last is not None and last.request.id == previous_id:
            return _checked(last)
        run = self._runs.find(request.tenant, previous_id)
        if run is not None and run.request.store is not False:
            return _checked(run)
        stored = await self._archive.find(request.tenant, previous_id)
        if stored is None:
            raise _unknown(previous_id, "is not kept (any more); send the whole conversation as input")
        if not stored.conversation:
            raise _unknown(previous_id, "has no answer to go on from")
        return stored.conversation


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
    own = 0 if run.request.instructions is None else 1
    answer = run.response.message()
    if run.response.ended is not None and not run.response.ended.accepted:
        answer = replace(answer, calls=())  # a call that was cut off was never shown, so it cannot have a result
    said = answer.parts or answer.calls or answer.refusal
    return (*run.request.prompt.messages[own:], *((answer,) if said else ()))


def _unknown(response_id: str, why: str) -> MillraceError:
    log.get().debug("conversation not continued", id=response_id)
    return MillraceError("previous_response_not_found", f"{PARAM}: {response_id[:80]!r} {why}", param=PARAM)
