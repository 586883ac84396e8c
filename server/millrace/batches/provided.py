"""Lines that the provider of their model answers in a batch of its own, at the price of one (`batch = true`).

They are told from the others before anything runs, and sent in one file for each model. What the provider answers is
brought to the disk, and each line then takes the way of all others, where the call of its model finds the answer at
hand. What the provider does not answer is asked as usual.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import msgspec

from millrace import log
from millrace.batches.asking import Asker
from millrace.batches.work import Work
from millrace.errors import MillraceError
from millrace.funnel.offload import in_thread
from millrace.ports import BatchDisk, FileLine, ProviderBatches
from millrace.types import Batch, ProvidedPart, Tier
from millrace.wire.reading import LONG

PIECE = 2**20  # bytes that are written at once
FIRST_LOOK_S, LAST_LOOK_S = 1.0, 60.0  # from one look at a provider's batch to the next, which grows
OK = 200


class _Body(msgspec.Struct):
    status_code: int
    body: msgspec.Raw


class _Answered(msgspec.Struct):
    custom_id: str
    response: _Body | None = None


class _Sent(msgspec.Struct):
    custom_id: str


class Provided:
    """Has lines of batches answered by providers."""

    def __init__(self, providers: Mapping[Tier, ProviderBatches], disk: BatchDisk, asker: Asker) -> None:
        self._providers = providers  # by the tier of the model that they serve
        self._disk = disk
        self._asker = asker

    async def send(self, work: Work) -> None:
        """Find the lines of a batch that its models' providers can answer, if that was not done, and set them aside."""
        if work.batch.provided is None:
            tiers = await self._sort(work) if self._providers else []
            await work.provide(tuple(ProvidedPart(tier=tier) for tier in tiers))
        for part in work.batch.provided or ():
            if not part.is_done:
                work.set_aside(await self._numbers(sent_id(work.batch, part.tier)))

    async def follow(self, work: Work) -> None:
        """Wait for the providers, and give each line back to the batch: with its answer, or to be asked as usual."""
        for part in work.batch.provided or ():
            if not part.is_done:
                await self._until_done(work, part)
            await self._give_back(work, part)

    async def cancel(self, batch: Batch) -> None:
        """Have the providers run no more of a batch."""
        for part in batch.provided or ():
            if part.provider_id and not part.is_done and part.tier in self._providers:
                try:
                    await self._providers[part.tier].cancel(part.provider_id)
                except MillraceError as error:
                    log.get().warning("provider's batch not cancelled", batch=batch.id, error=error.message)

    async def forget(self, batch: Batch) -> None:
        """Remove what was kept for a batch that is done."""
        await self._disk.remove(files_of(batch))

    async def _sort(self, work: Work) -> list[Tier]:
        """Write the lines of each model to a file of its own; return the models that have some."""
        batch, found = work.batch, set[Tier]()
        await self._disk.remove([sent_id(batch, tier) for tier in self._providers])  # of an earlier try
        waiting = {tier: bytearray() for tier in self._providers}
        async for number, text in work.pending():
            made = partial(self._made, batch, number, text)
            line = made() if len(text) <= LONG else await in_thread(batch.tenant, len(text), made)
            if line is not None:
                tier = line[0]
                waiting[tier] += line[1]
                found.add(tier)
                if len(waiting[tier]) >= PIECE:
                    await self._disk.append(sent_id(batch, tier), bytes(waiting[tier]))
                    waiting[tier].clear()
            await asyncio.sleep(0)  # visitors go first
        for tier, rest in waiting.items():
            if rest:
                await self._disk.append(sent_id(batch, tier), bytes(rest))
        for tier in found:
            await self._disk.sync(sent_id(batch, tier))
        return sorted(found)

    def _made(self, batch: Batch, number: int, text: bytes) -> tuple[Tier, bytes] | None:
        """Return the model that a line asks alone, and what its provider gets; None if it stays here."""
        call = self._asker.call_of(batch, text)
        provider = None if call is None else self._providers.get(call.model.tier)
        return None if call is None or provider is None else (call.model.tier, provider.line(call, str(number)))

    async def _numbers(self, file_id: str) -> list[int]:
        found: list[int] = []

        def look(line: FileLine) -> bool:
            if line.text is not None:
                found.append(int(msgspec.json.decode(line.text, type=_Sent).custom_id))
            return True

        await self._disk.lines(file_id, look)
        return found

    async def _until_done(self, work: Work, part: ProvidedPart) -> None:
        provider, look_s = self._providers.get(part.tier), FIRST_LOOK_S
        if provider is None:  # its model is not configured so any more: all is asked as usual
            await work.provide(_with(work.batch, replace(part, is_done=True)))
            return
        came = came_id(work.batch, part.tier)
        while True:
            try:
                if not part.provider_id:
                    name = f"{work.batch.id}-{part.tier}"
                    provider_id = await provider.start(self._disk, sent_id(work.batch, part.tier), name)
                    part = replace(part, provider_id=provider_id)
                    await work.provide(_with(work.batch, part))
                work.provider_waits_for = f"{part.provider_id} of the {part.tier} model's provider"
                found = await provider.look(part.provider_id)
                if found.has_ended:
                    if found.output_file_id is not None:
                        await provider.bring(found.output_file_id, self._disk, came)
                        await self._disk.sync(came)
                    await work.provide(_with(work.batch, replace(part, is_done=True)))
                    return
            except MillraceError as error:
                work.provider_waits_for = error.message
                log.get().warning("provider's batch not looked at", batch=work.batch.id, error=error.message)
            await asyncio.sleep(look_s)
            look_s = min(LAST_LOOK_S, look_s * 2)

    async def _give_back(self, work: Work, part: ProvidedPart) -> None:
        work.provider_waits_for = ""
        came = came_id(work.batch, part.tier)
        answered: dict[int, tuple[str, int, int]] = {}

        def look(line: FileLine) -> bool:
            if line.text is not None and line.is_whole:
                try:
                    read = msgspec.json.decode(line.text, type=_Answered)
                except msgspec.DecodeError:
                    return True
                if read.response is not None and read.response.status_code == OK and read.custom_id.isdigit():
                    answered[int(read.custom_id)] = (came, line.start, line.end - line.start)
            return True

        await self._disk.lines(came, look)
        work.give_back(await self._numbers(sent_id(work.batch, part.tier)), answered)


def said_in(line: bytes) -> bytes | None:
    """Return the answer that a provider's line has, without the tier that it names: it is that of a batch."""
    try:
        answer = msgspec.json.decode(line, type=_Answered).response
        fields = None if answer is None else msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return None
    return msgspec.json.encode({**fields, "service_tier": None}) if isinstance(fields, dict) else None


def files_of(batch: Batch) -> list[str]:
    """Return the files that are kept for a batch while providers run it."""
    return [made(batch, part.tier) for part in batch.provided or () for made in (sent_id, came_id)]


def sent_id(batch: Batch, tier: Tier) -> str:
    """Return the file of what a provider gets."""
    return f"{batch.id}-{tier}.sent"


def came_id(batch: Batch, tier: Tier) -> str:
    """Return the file of what has come of it."""
    return f"{batch.id}-{tier}.came"


def _with(batch: Batch, part: ProvidedPart) -> tuple[ProvidedPart, ...]:
    return tuple(part if each.tier == part.tier else each for each in batch.provided or ())
