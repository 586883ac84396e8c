"""Lanes: any order of joining, starting and leaving, against the plain rules."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from millrace.errors import MillraceError
from millrace.web.lanes import Lanes, Place
from millrace.wire import limits


class LanesModel(RuleBasedStateMachine):
    """Any order of joining, starting and leaving, against the plain rules."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.joined: list[Place] = []  # all that are in, oldest first
        self.running: list[Place] = []

    @rule(lane=st.none() | st.integers(0, 40), burst=st.integers(1, 40), spread=st.booleans())
    def join(self, lane: int | None, burst: int, *, spread: bool) -> None:
        for index in range(burst):
            place = Place(None if lane is None else str(lane + index * spread))
            named = {other.stream_id for other in self.joined} - {None}
            in_lane = any(other.stream_id == place.stream_id for other in self.joined)
            must_wait = in_lane or len(self.running) >= limits.MAX_RUNNING
            full = must_wait and len(self.joined) - len(self.running) >= limits.MAX_QUEUED
            if full or (place.stream_id not in {None, *named} and len(named) >= limits.MAX_LANES):
                with pytest.raises(MillraceError) as raised:
                    self.lanes.join(place)
                assert raised.value.code == ("queue_full" if full else "websocket_stream_limit_reached")
            else:
                self.lanes.join(place)
                self.joined.append(place)

    @rule(times=st.integers(1, 20))
    def start(self, times: int) -> None:
        for _ in range(times):
            busy = {place.stream_id for place in self.running}
            free = [place for place in self.joined if place.stream_id not in busy]
            expected = free[0] if free and len(self.running) < limits.MAX_RUNNING else None
            assert self.lanes.start_next() == expected
            self.running += [expected] if expected else []

    @precondition(lambda self: self.joined)
    @rule(data=st.data(), only_running=st.booleans())
    def leave(self, data: st.DataObject, *, only_running: bool) -> None:
        place = data.draw(st.sampled_from(self.running if only_running and self.running else self.joined))
        for _ in range(2):  # leaving twice is leaving once
            self.lanes.leave(place)
        self.joined.remove(place)
        self.running = [other for other in self.running if other != place]

    @invariant()
    def within_limits_and_in_order(self) -> None:
        assert list(self.lanes.running.values()) == self.running
        assert len(self.running) <= limits.MAX_RUNNING
        assert len({place.stream_id for place in self.running}) == len(self.running)
        for lane in {place.stream_id for place in self.joined}:
            assert self.lanes.in_lane(lane) == [place for place in self.joined if place.stream_id == lane]
        assert self.lanes.in_lane("empty") == []


TestLanes = LanesModel.TestCase
