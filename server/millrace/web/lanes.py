"""Which request of a connection runs next (PROTOCOL.md, A connection, Lanes): in order in a lane, lanes in parallel."""

from msgspec import Struct, field

from millrace.errors import MillraceError
from millrace.wire import limits


class Place(Struct, frozen=True, eq=False):
    """A request's place in its lane (None: the default one)."""

    stream_id: str | None


class Lanes(Struct):
    """The requests of one connection, running and waiting."""

    running: dict[str | None, Place] = field(default_factory=dict)  # by lane: one at a time in each
    waiting: list[Place] = field(default_factory=list)

    def join(self, place: Place) -> None:
        """Wait in a lane. Raises `queue_full` or `websocket_stream_limit_reached`."""
        if len(self.waiting) >= limits.MAX_QUEUED and self.must_wait(place):
            raise MillraceError(
                "queue_full", f"{limits.MAX_QUEUED} requests wait on this connection already", retry_after_ms=1000
            )
        if place.stream_id is not None:
            busy = {other.stream_id for other in (*self.running.values(), *self.waiting)} - {None}
            if place.stream_id not in busy and len(busy) >= limits.MAX_LANES:
                raise MillraceError(
                    "websocket_stream_limit_reached",
                    f"{limits.MAX_LANES} lanes of this connection are busy; wait for one to end, or use one of them",
                    param="stream_id",
                )
        self.waiting.append(place)

    def must_wait(self, place: Place) -> bool:
        """Whether a request cannot start at once."""
        return len(self.running) >= limits.MAX_RUNNING or bool(self.in_lane(place.stream_id))

    def start_next(self) -> Place | None:
        """Move the first request that may run from waiting to running, and return it."""
        if len(self.running) >= limits.MAX_RUNNING:
            return None
        for place in self.waiting:
            if place.stream_id not in self.running:
                self.start(place)
                return place
        return None

    def start(self, place: Place) -> None:
        """Move the first request of a lane from waiting to running, however many run in other lanes."""
        self.waiting.remove(place)
        self.running[place.stream_id] = place

    def leave(self, place: Place) -> None:
        """Remove a request, running or waiting. Idempotent."""
        if self.running.get(place.stream_id) is place:
            del self.running[place.stream_id]
        elif place in self.waiting:
            self.waiting.remove(place)

    def in_lane(self, stream_id: str | None) -> list[Place]:
        """Return a lane's requests, the running one first."""
        waiting = [place for place in self.waiting if place.stream_id == stream_id]
        return [self.running[stream_id], *waiting] if stream_id in self.running else waiting
