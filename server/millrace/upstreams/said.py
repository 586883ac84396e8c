"""A response that has come already, in a file of a provider's batch."""

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Self

from millrace.ports import said
from millrace.types import BATCH_TIER, Call
from millrace.upstreams.exchange import Take


class SaidResponse:
    """Implements `exchange.Response`: one document, which is there."""

    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}

    def __init__(self, body: bytes) -> None:
        self._body = body

    @classmethod
    async def of(cls, body: bytes) -> Self:
        """Return the response, as one that has to be waited for."""
        return cls(body)

    async def push(self, take: Take) -> None:
        """Push the document."""
        take(self._body)

    async def finish(self, within_s: float) -> None:
        """Do nothing: all of it is read."""

    def pause(self) -> None:
        """Do nothing: nobody has to wait."""

    def resume(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def unless_said(call: Call) -> Call:
    """Return a call as it is made: of a line whose answer is not there, or no more, its provider makes a plain one."""
    if call.prompt.service_tier != BATCH_TIER:
        return call
    if (before := said.get()) is not None and before.is_for(call.model.id):
        return call
    extras = {name: value for name, value in call.prompt.extras.items() if name != "service_tier"}
    return replace(call, prompt=replace(call.prompt, extras=extras))
