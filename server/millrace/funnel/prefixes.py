"""Beginnings of prompts that providers keep in their caches: what finds one again, and which are worth keeping.

A provider charges a fraction for what it reads from its cache. Some find it by themselves, and sooner with a key that
requests with the same beginning share (`prompt_cache_key`). Others keep only what is marked, and to keep it costs a
quarter more than to read it: so what nobody is likely to send again is not marked.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from millrace.ports import Clock
from millrace.types import Message, Prefix, Prompt, Request

LEAST = 768  # tokens as counted here; providers keep prompts of 1024 of their own, and some of them count more
LONG = 3072  # characters of a system prompt that are about as many
KEPT_S = 300.0  # for which providers keep it after its last use
MOST = 10_000  # system prompts that are remembered
_BEGINNING = 1024  # characters that tell conversations apart which nobody has named
_UNNAMED = "resp_"  # begins the session of those: the id of their first response
_TOO_MUCH = 1.5  # steps that are cut beyond what must be, at most
SHORT = Prefix(is_read_again=False)


class Prefixes:
    """What was sent lately, of all tenants; no text of it."""

    def __init__(self, clock: Clock) -> None:
        """`clock` in seconds."""
        self._clock = clock
        self._sent: OrderedDict[int, float] = OrderedDict()  # tenants with their system prompts, and when; oldest first

    def of(self, request: Request) -> Prefix:
        """Return how the beginning of a request that is sent now is kept. Called once for each."""
        if request.input_tokens < LEAST:
            return SHORT
        return Prefix(key=_key(request), is_read_again=self._is_read_again(request.tenant, request.prompt))

    def _is_read_again(self, tenant: str, prompt: Prompt) -> bool:
        """Whether the prompt is likely to come again: it goes on, or others of the tenant began with it lately."""
        if prompt.tools or any(message.role == "assistant" for message in prompt.messages):
            return True
        system = tuple(_texts(message for message in prompt.messages if message.role == "system"))
        if sum(map(len, system)) < LONG:
            return False
        now, name = self._clock(), hash((tenant, system))
        sent_at = self._sent.pop(name, None)
        self._sent[name] = now
        if len(self._sent) > MOST:
            self._sent.popitem(last=False)
        return sent_at is not None and now - sent_at <= KEPT_S


def steady(sizes: Sequence[int], first: int, step: int) -> int:
    """Return the turn that a cut history begins with: one not before `first` that stays the same for several turns.

    `sizes` are those of all turns in characters, the oldest first, of which `first` and the later ones fit. A history
    may begin where a whole number of steps (characters) is passed. It begins with `first` where no such turn follows,
    or where too much would be cut because a turn is very long.
    """
    before, steps = 0, 0  # characters, and whole steps of them
    at_first = 0
    for at, size in enumerate(sizes):
        if at == first:
            at_first = before
        passed, steps = before // max(1, step) > steps, before // max(1, step)
        if at >= first and passed:
            return at if before - at_first <= _TOO_MUCH * step else first
        before += size
    return first


def _key(request: Request) -> str:
    """Return what the requests of a tenant's session share, and no others: it stays the same from turn to turn.

    A session without a name is known by how it begins. Where a long system prompt is all of that, all that begin with
    it share the key, as they share what the provider keeps.
    """
    name = request.session
    if not name or name.startswith(_UNNAMED):
        beginning: list[str] = []
        for message in request.prompt.messages:
            beginning += _texts((message,))
            if message.role != "system" or sum(map(len, beginning)) >= _BEGINNING:
                break
        name = "\0" + "\0".join(beginning)[:_BEGINNING]
    whose = f"{len(request.tenant)}\0{request.tenant}{name}"
    return hashlib.sha256(whose.encode(errors="replace")).hexdigest()[:32]


def _texts(messages: Iterable[Message]) -> list[str]:
    return [part for message in messages for part in message.parts if isinstance(part, str)]
