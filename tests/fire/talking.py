"""Talks over a WebSocket in frames of a grammar, and holds what comes back to the contract and to what always holds."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.fire.grammar import LANES, Frames, Ids
from tests.fire.target import Target
from tests.fire.watch import HANG_S, HangError
from tests.support import frames as contract
from tests.support.waiting import PATIENCE_S
from tests.support.wire_client import TERMINALS

Event = dict[str, Any]

RESPONSES, CHAT, DASHBOARD = "/v1/responses", "/v1/chat/ws", "/v1/dashboard/live"
FRAMES = 40  # of one connection
REFUSALS = (1003, 1007, 1008, 1009)  # close codes of what a client did
OWED_S = 15.0  # for the last answers to end
REPORT_S = 5.0  # for figures, which are added up in another thread
LAST = "the last"  # names what is sent last


@dataclass(slots=True)
class Lane:
    """What has been seen of one lane."""

    due: int | None = None  # the number of the next event of the response that is shown
    ends: int = 0  # terminals and refusals
    sound: int = 0  # requests as the contract has them


@dataclass(slots=True)
class Talk:
    """One connection, and what was seen on it."""

    target: Target
    address: str
    ids: Ids
    is_negotiated: bool
    seen: Counter[str]
    lanes: dict[str | None, Lane] = field(default_factory=dict)
    unanswered: dict[str, Event] = field(default_factory=dict)  # sound requests of a chat
    over: asyncio.Event = field(default_factory=asyncio.Event)  # the answer to what was sent last has come
    epoch: str = "unknown"

    def fault(self, what: str) -> None:
        """Note a fault of this connection."""
        self.target.watch.fault(f"{self.address}: {what}")

    def take(self, message: str | bytes) -> None:
        """Check one frame of the server."""
        event: Event = json.loads(message)
        kind = event["type"]
        if '"internal_error"' in str(message):
            self.fault(f"internal_error: {message!r}")
        try:
            if self.address == CHAT:
                self._take_of_chat(event, kind)
            else:
                contract.validate(event, "sent")
                self._take_of_responses(event, kind)
        except AssertionError as error:
            self.fault(str(error))

    def _take_of_chat(self, event: Event, kind: str) -> None:
        contract.validate_chat(event)
        self.seen[event["chunk"]["type"] if kind == "chunk" else kind] += 1
        if kind == "end":
            self.unanswered.pop(event["requestId"], None)
        elif kind == "no-active" and event["requestId"] == LAST:
            self.over.set()

    def _take_of_responses(self, event: Event, kind: str) -> None:
        self.seen[f"error: {event['error']['code']}" if kind == "error" else kind] += 1
        if kind == "dashboard.figures" or (kind == "millrace.pong" and event["t"] == LAST):
            self.over.set()
        elif kind == "millrace.hello":
            self.epoch = event["epoch"]
        lane = self.lanes.setdefault(event.get("stream_id"), Lane())
        if kind == "error":
            lane.ends += 1
        if (number := event.get("sequence_number")) is None:
            return
        if lane.due is None:
            assert number == 0 or kind != "response.created", f"{kind} begins with number {number}"
        else:
            assert number == lane.due, f"{kind} has number {number} instead of {lane.due}"
        lane.due = number + 1
        if kind in TERMINALS:
            lane.due = None
            lane.ends += 1
            self.ids.learn(event)

    def note(self, fields: Event) -> None:
        """Note that a frame as the contract has it was sent."""
        if fields["type"] == "response.create" and fields.get("stream_id") in (None, *LANES):
            self.lanes.setdefault(fields.get("stream_id"), Lane()).sound += 1
        elif fields["type"] == "send":
            self.unanswered[fields["requestId"]] = fields

    @property
    def owed(self) -> list[str]:
        """What has no answer yet."""
        lanes = [
            f"lane {name}: {lane.ends} of {lane.sound}"
            for name, lane in self.lanes.items()
            if lane.ends < lane.sound or lane.due is not None
        ]
        return lanes + [f"chat request {fields}" for fields in self.unanswered.values()]


async def talk(target: Target, made: Frames, address: str, ids: Ids, random: Random, seen: Counter[str]) -> int:
    """Send some frames over one connection and read all answers; return how many were sent."""
    is_negotiated = address == RESPONSES and random.random() < 0.5
    told = Talk(target, address, ids, is_negotiated, seen)
    sent = 0
    protocols = [Subprotocol("millrace.v1")] if is_negotiated else None
    url = f"{target.running.ws_url}{address}"
    async with connect(
        url, subprotocols=protocols, compression=None, max_size=None, open_timeout=PATIENCE_S, close_timeout=2
    ) as connection:
        reading = asyncio.create_task(_read(connection, told))
        try:
            for _ in range(random.randrange(1, 2 * FRAMES)):
                frame = made.next(address, told.epoch)
                await connection.send(frame.text.encode("utf-8", "replace"), text=True)
                sent += 1
                if frame.is_sound:
                    told.note(frame.fields)
                if random.random() < 0.2:
                    await asyncio.sleep(0)
            await _end(connection, told, random)
        except ConnectionClosed as closed:
            _judge(told, closed)
        except HangError as error:
            told.fault(f"hang: {error}")
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if not reading.cancelled() and (fault := reading.exception()) is not None:
            told.fault(repr(fault))
    return sent


async def _end(connection: ClientConnection, told: Talk, random: Random) -> None:
    """Ask something that is answered at once; then wait for all answers, or leave while some are under way."""
    last: dict[str, Event] = {
        RESPONSES: {"type": "millrace.ping", "t": LAST},
        CHAT: {"type": "resume", "requestId": LAST, "id": "a chat that is none"},
        DASHBOARD: {"type": "dashboard.watch", "since": "1h"},
    }
    told.over.clear()
    await connection.send(json.dumps(last[told.address]))
    watch = told.target.watch
    closed = asyncio.ensure_future(connection.wait_closed())
    over = asyncio.ensure_future(told.over.wait())
    try:
        patience_s = REPORT_S if told.address == DASHBOARD else HANG_S
        await watch.within(asyncio.wait([over, closed], return_when=asyncio.FIRST_COMPLETED), patience_s)
        if not over.done():
            raise connection.protocol.close_exc
    finally:
        closed.cancel()
        over.cancel()
    if random.random() < 0.7:
        try:
            await watch.within(_none_owed(told), OWED_S)
        except HangError:
            told.fault(f"no answer: {told.owed[:3]}")
    elif random.random() < 0.5:
        connection.transport.abort()


async def _none_owed(told: Talk) -> None:
    while told.owed:  # noqa: ASYNC110 - a connection that closes meanwhile ends the wait too
        await asyncio.sleep(0.005)


async def _read(connection: ClientConnection, told: Talk) -> None:
    with suppress(ConnectionClosed):  # how, is seen where something is sent
        async for message in connection:
            told.take(message)


def _judge(told: Talk, closed: ConnectionClosed) -> None:
    """A server may close for what a client did, and says why."""
    code = None if closed.rcvd is None else closed.rcvd.code
    told.seen[f"closed {code}"] += 1
    if code not in REFUSALS:
        told.fault(f"closed with {code}: {closed}")
