"""What has ended is kept for a while, so that it can be resumed, continued and repeated by its key.

It is kept by tenant: no tenant's traffic pushes out what another one may still ask for. A tenant may keep as much as is
still free (`memory.Shares`).
Beyond that a tenant's own oldest are dropped: first what only a lane still continues, then what has no idempotency key.
"""

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct, field

from millrace.memory import Shares, full
from millrace.runs.histories import has_own_fields
from millrace.runs.run import Run
from millrace.types import CallPiece, Message
from millrace.wire import limits


class Repeat(Struct, frozen=True, kw_only=True):
    """What two requests must have in common to be one."""

    place: tuple[str, str, str]  # tenant, key, idempotency key
    digest: bytes  # SHA-256 of the body


class _Item(Struct, eq=False):
    """A run that has ended, under which key it is repeated, and the bytes it was last counted with."""

    run: Run
    repeat: Repeat | None
    calls: "tuple[_Place, ...]"  # that it made
    size: int = 0
    lanes: int = 0  # of connections, that have shown it last


_Place = tuple[str, str, int]  # tenant, id of a call, hash of the text before it
_Items = OrderedDict[str, _Item]  # by response id, the oldest first


class _Shelf(Struct):
    """The runs of one tenant, in the order in which they are dropped."""

    expired: _Items = field(default_factory=OrderedDict)  # only the next request of their lane can name them
    plain: _Items = field(default_factory=OrderedDict)
    keyed: _Items = field(default_factory=OrderedDict)

    @property
    def all(self) -> tuple[_Items, _Items, _Items]:
        return self.expired, self.plain, self.keyed

    def oldest(self, but: _Item) -> _Item | None:
        return next((item for items in self.all for item in items.values() if item is not but), None)


class Kept:
    """The ended runs of all tenants, of at most `allowed` bytes. `on_forget` is called with each that is dropped."""

    def __init__(self, allowed: int, on_forget: Callable[[Run, Repeat | None], None]) -> None:
        self._shares = Shares(lambda: self._allowed - self.size)
        self._allowed = allowed
        self._on_forget = on_forget
        self._items: dict[str, _Item] = {}
        self._shelves: dict[str, _Shelf] = {}
        self._calls: dict[_Place, str] = {}  # -> the response that made a call there last

    def __len__(self) -> int:
        return len(self._items)

    @property
    def size(self) -> int:
        """Bytes that all keep."""
        return self._shares.used

    def check_fits(self, tenant: str, size: int) -> None:
        """Raise `overloaded` if a request of so many bytes could not be kept even if the tenant kept nothing else."""
        if self.size - self._shares.held(tenant) + size > self._allowed:
            raise full()

    def add(self, run: Run, repeat: Repeat | None) -> None:
        """Keep a run that has ended; a tenant's latest one always stays."""
        item = self._items[run.request.id] = _Item(run, repeat, _calls_of(run))
        shelf = self._shelves.setdefault(run.request.tenant, _Shelf())
        (shelf.plain if repeat is None else shelf.keyed)[run.request.id] = item
        self._calls |= dict.fromkeys(item.calls, run.request.id)
        self.count(run)

    def find(self, response_id: str) -> Run | None:
        """Return a run that is kept for everybody of its tenant."""
        item = self._items.get(response_id)
        return None if item is None or response_id in self._shelf(item).expired else item.run

    def made_call(self, tenant: str, call_id: str, before: Message) -> Run | None:
        """Return a tenant's run that is kept for everybody and made a call after a message."""
        return self.find(self._calls.get(_place(tenant, call_id, before), ""))

    def last_of_lane(self, response_id: str) -> Run | None:
        """Return a run that a lane holds, also after its time."""
        item = self._items.get(response_id)
        return None if item is None else item.run

    def hold(self, response_id: str) -> None:
        """Keep a run as the last one of a lane until it is released, unless there is too much else."""
        if (item := self._items.get(response_id)) is not None:
            item.lanes += 1

    def release(self, response_id: str) -> None:
        """Note that a lane holds the run no more."""
        if (item := self._items.get(response_id)) is not None and item.lanes:
            item.lanes -= 1
            if not item.lanes and response_id in self._shelf(item).expired:
                self.forget(response_id)

    def count(self, run: Run) -> None:
        """Count what a run keeps now, and drop the oldest of its tenant if they keep too much."""
        item = self._items.get(run.request.id)
        if item is None:
            return
        shelf, size, tenant = self._shelf(item), run.size, run.request.tenant
        self._shares.count(tenant, size - item.size)
        item.size = size
        while self._shares.excess(tenant) > 0 and (oldest := shelf.oldest(item)) is not None:
            self.forget(oldest.run.request.id)

    def forget(self, response_id: str) -> None:
        """Keep a run no longer. Idempotent."""
        item = self._items.pop(response_id, None)
        if item is None:
            return
        tenant = item.run.request.tenant
        shelf = self._shelves[tenant]
        self._shares.count(tenant, -item.size)
        for items in shelf.all:
            items.pop(response_id, None)
        for call in item.calls:
            if self._calls.get(call) == response_id:
                del self._calls[call]
        if not any(shelf.all):
            del self._shelves[tenant]
        self._on_forget(item.run, item.repeat)

    def expire(self, now: float) -> None:
        """Drop what has ended too long ago, except for the lanes that hold it."""
        for shelf in tuple(self._shelves.values()):
            for items in (shelf.plain, shelf.keyed):
                while items and now - (oldest := next(iter(items.values()))).run.since >= limits.KEPT_S:
                    response_id = oldest.run.request.id
                    if oldest.lanes:
                        shelf.expired[response_id] = items.pop(response_id)
                        self._on_forget(oldest.run, oldest.repeat)
                    else:
                        self.forget(response_id)

    def _shelf(self, item: _Item) -> _Shelf:
        return self._shelves[item.run.request.tenant]


def _place(tenant: str, call_id: str, before: Message) -> _Place:
    """Return where a call was made. Some providers use the same ids in every conversation."""
    return tenant, call_id, hash(before.text)


def _calls_of(run: Run) -> tuple[_Place, ...]:
    """Return the place of each call, if a client may leave something out when it sends the answer back."""
    asked = run.request.prompt.messages
    if run.request.store is False or not asked or not any(isinstance(fact, CallPiece) for fact in run.response.facts):
        return ()
    answer = run.response.message()
    if not answer.reasoning and not has_own_fields(answer):
        return ()
    return tuple([_place(run.request.tenant, call.id, asked[-1]) for call in answer.calls])
