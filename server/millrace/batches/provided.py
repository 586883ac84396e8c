"""Lines that the provider of their model answers in a batch of its own, at the price of one (`batch = true`).

They are told from the others before anything runs, and sent in one file for each model. What the provider answers is
brought to the disk, and each line then takes the way of all others, where the call of its model finds the answer at
hand. What the provider does not answer is asked as usual.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, Decimal
from functools import partial

import msgspec
from msgspec.structs import replace

from millrace import log
from millrace.batches.asking import Asker
from millrace.batches.budget import Budget
from millrace.batches.work import Came, Work
from millrace.errors import UpstreamError
from millrace.funnel.offload import in_thread
from millrace.ports import BatchDisk, Clock, FileLine, ProviderBatches
from millrace.pricing import NANODOLLAR, ZERO
from millrace.types import Batch, ProvidedPart, Tier
from millrace.wire.reading import LONG

PIECE = 2**20  # bytes that are written at once
WORK_S, RESTS = 0.001, 4  # for which lines are sorted at a time, and how many times as long the event loop has then
FIRST_LOOK_S, LAST_LOOK_S = 1.0, 60.0  # from one look at a provider's batch to the next, which grows
END_S = 900.0  # for a provider to end a batch that is cancelled
REFUSALS = 10  # in a row, of questions about a batch that was made; its key may be changed meanwhile
NOTICE_S = 0.2  # within which it is noticed that a batch is to end
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

    def __init__(
        self,
        providers: Callable[[], Mapping[Tier, ProviderBatches]],  # by the tier of the model that they serve, as of now
        disk: BatchDisk,
        asker: Asker,
        budget: Budget,
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._disk = disk
        self._asker = asker
        self._budget = budget
        self._clock = clock

    async def send(self, work: Work, *, is_ending: bool) -> None:
        """Find the lines of a batch that its models' providers can answer, if that was not done, and set them aside.

        The dollars that they are likely to cost are reserved of the batches' budget. `is_ending`: nothing more is sent.
        """
        if work.batch.provided is not None:
            for part in work.batch.provided:
                self._hold(work, part.likely)
        elif not is_ending:
            await work.provide(tuple(await self._sort(work)))
        for part in work.batch.provided or ():
            work.set_aside(await self._numbers(sent_id(work.batch, part.tier)))

    async def follow(self, work: Work, is_ending: Callable[[], bool]) -> None:
        """Wait for the providers, and give each line back to the batch: with its answer, or to be asked as usual.

        Once it `is_ending`, the providers end theirs, and what they have answered until then comes back.
        """
        try:
            async with asyncio.TaskGroup() as parts:
                for part in work.batch.provided or ():
                    parts.create_task(self._follow(work, part, is_ending))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _follow(self, work: Work, part: ProvidedPart, is_ending: Callable[[], bool]) -> None:
        if not part.is_done:
            await self._until_done(work, part, is_ending)
        await self._give_back(work, part)

    async def forget(self, batch: Batch) -> None:
        """Remove what was kept for a batch that is done."""
        await self._disk.remove(files_of(batch))

    def let_go(self, work: Work, dollars: Decimal) -> None:
        """Reserve no more for answers of providers."""
        self._budget.settle(dollars, ZERO)
        work.held -= dollars

    def _hold(self, work: Work, dollars: Decimal) -> None:
        self._budget.hold(dollars)
        work.held += dollars

    async def _sort(self, work: Work) -> list[ProvidedPart]:
        """Write the lines of each model to a file of its own; return the models that have some.

        What the batches' budget has no room for today stays here, and waits for it as usual.
        """
        batch, providers = work.batch, self._providers()
        if not providers:
            return []
        await self._disk.remove([sent_id(batch, tier) for tier in Tier])  # of an earlier try
        waiting = {tier: bytearray() for tier in providers}
        likely: dict[Tier, Decimal] = {}
        worked_s = 0.0
        async for number, text in work.pending():
            began_at = self._clock()
            made = partial(self._made, providers, batch, number, text)
            line = made() if len(text) <= LONG else await in_thread(batch.tenant, len(text), made)
            if line is not None and self._budget.reserve(line[2]):
                tier, written, cost = line
                work.held += cost
                likely[tier] = likely.get(tier, ZERO) + cost
                waiting[tier] += written
                if len(waiting[tier]) >= PIECE:
                    await self._disk.append(sent_id(batch, tier), bytes(waiting[tier]))
                    waiting[tier].clear()
            worked_s += self._clock() - began_at
            if worked_s >= WORK_S:  # visitors go first
                await asyncio.sleep(RESTS * worked_s)
                worked_s = 0.0
        for tier, rest in waiting.items():
            if rest:
                await self._disk.append(sent_id(batch, tier), bytes(rest))
        for tier in likely:
            await self._disk.sync(sent_id(batch, tier))
        return [
            ProvidedPart(tier=tier, model=providers[tier].model, address=providers[tier].address, likely=cost)
            for tier, cost in sorted(likely.items())
        ]

    def _made(
        self, providers: Mapping[Tier, ProviderBatches], batch: Batch, number: int, text: bytes
    ) -> tuple[Tier, bytes, Decimal] | None:
        """Return the model that a line asks alone, what its provider gets, and what it is likely to cost.

        None if it stays here.
        """
        found = self._asker.call_of(batch, text)
        if found is None:
            return None
        call, cost = found
        provider = providers.get(call.model.tier)
        if provider is None or provider.model != call.model.id:
            return None
        return call.model.tier, provider.line(call, str(number)), cost

    async def _numbers(self, file_id: str) -> list[int]:
        found: list[int] = []

        def look(line: FileLine) -> bool:
            if line.text is not None:
                found.append(int(msgspec.json.decode(line.text, type=_Sent).custom_id))
            return True

        await self._disk.lines(file_id, look)
        return found

    async def _until_done(self, work: Work, part: ProvidedPart, is_ending: Callable[[], bool]) -> None:
        """Have a provider answer its lines, and bring the answers; without them if that cannot be."""
        if (provider := self._provider(part)) is not None:
            part = await self._answered(work, part, provider, is_ending)
        else:
            log.get().warning("provider's batch is left alone", batch=work.batch.id, provider_batch=part.provider_id)
        await work.provide(_with(work.batch, replace(part, is_done=True)))

    def _provider(self, part: ProvidedPart) -> ProviderBatches | None:
        """Return who has a part, as it is configured now; None if it is not."""
        found = self._providers().get(part.tier)
        return found if found is not None and (found.model, found.address) == (part.model, part.address) else None

    async def _answered(
        self, work: Work, part: ProvidedPart, provider: ProviderBatches, is_ending: Callable[[], bool]
    ) -> ProvidedPart:
        """Wait until a provider has answered its lines, or will not. What one has begun it ends."""
        look_s, refusals, ends_at = FIRST_LOOK_S, 0, math.inf
        while True:
            provider = self._provider(part) or provider  # its key may be another one
            if is_ending() and ends_at == math.inf:
                look_s, ends_at = FIRST_LOOK_S, self._clock() + END_S
                await self._cancel(work.batch, part, provider)
            try:
                if not part.provider_id:
                    part = await self._begun(work, part, provider, is_ending=ends_at < math.inf)
                if not part.provider_id or await self._has_brought(work, part, provider):
                    return part
                refusals = 0
            except UpstreamError as error:
                work.provider_waits_for = error.message
                refusals += not error.rule.retry
                gives_up = not error.rule.retry and (not part.provider_id or refusals >= REFUSALS)
                told = {"batch": work.batch.id, "error": error.message, "gives_up": gives_up}
                log.get().warning("provider's batch not looked at", **told)
                if gives_up:
                    return part
            if self._clock() >= ends_at:
                log.get().warning(
                    "provider's batch has not ended", batch=work.batch.id, provider_batch=part.provider_id
                )
                return part
            await self._rest(look_s, is_ending if ends_at == math.inf else _never)
            look_s = min(LAST_LOOK_S, look_s * 2)

    async def _begun(
        self, work: Work, part: ProvidedPart, provider: ProviderBatches, *, is_ending: bool
    ) -> ProvidedPart:
        """Have the batch of a provider made, if there is none yet; only look for it if ours is to end."""
        name, sent = f"{work.batch.id}-{part.tier}", sent_id(work.batch, part.tier)
        found = await (provider.find(name) if is_ending else provider.start(self._disk, sent, name))
        if found is not None:
            part = replace(part, provider_id=found)
            await work.provide(_with(work.batch, part))
            if is_ending:
                await self._cancel(work.batch, part, provider)
        return part

    async def _has_brought(self, work: Work, part: ProvidedPart, provider: ProviderBatches) -> bool:
        """Bring what the batch of a provider has answered, if it has ended."""
        work.provider_waits_for = f"{part.provider_id} of the {part.tier} model's provider"
        found = await provider.look(part.provider_id)
        if found.has_ended and found.output_file_id is not None:
            came = came_id(work.batch, part.tier)
            await provider.bring(found.output_file_id, self._disk, came)
            await self._disk.sync(came)
        return found.has_ended

    async def _rest(self, seconds: float, is_ending: Callable[[], bool]) -> None:
        """Wait for the next look, or until a batch is to end."""
        until = self._clock() + seconds
        while not is_ending() and (left := until - self._clock()) > 0:  # noqa: ASYNC110 - a time cannot tell us
            await asyncio.sleep(min(left, NOTICE_S))

    async def _cancel(self, batch: Batch, part: ProvidedPart, provider: ProviderBatches) -> None:
        """Have the provider run no more of a batch."""
        if part.provider_id:
            try:
                await provider.cancel(part.provider_id)
            except UpstreamError as error:  # it may have ended; the next look tells
                log.get().warning("provider's batch not cancelled", batch=batch.id, error=error.message)

    async def _give_back(self, work: Work, part: ProvidedPart) -> None:
        work.provider_waits_for = ""
        came, numbers = came_id(work.batch, part.tier), await self._numbers(sent_id(work.batch, part.tier))
        held = (part.likely / max(1, len(numbers))).quantize(NANODOLLAR, ROUND_DOWN)  # for each of them
        answered: dict[int, Came] = {}

        def look(line: FileLine) -> bool:
            if line.text is not None:
                try:
                    read = msgspec.json.decode(line.text, type=_Answered)
                except msgspec.DecodeError:
                    return True
                if read.response is not None and read.response.status_code == OK and read.custom_id.isdigit():
                    place = Came(came, line.start, line.end - line.start, part.model, held)
                    answered[int(read.custom_id)] = place
            return True

        await self._disk.lines(came, look)
        count = work.give_back(numbers, answered)
        self.let_go(work, part.likely - held * count)


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


def _never() -> bool:
    return False
