"""`/v1/dashboard/live`: a WebSocket that shows what ends, as it ends. It costs about one small frame a second.

Nothing waits for a slow reader: while its socket is full, frames are left out and counted. Frames are made off the
event loop, from what was added up there.
"""

import asyncio
from collections import Counter, deque
from contextlib import suppress
from typing import Any, cast

import msgspec
from starlette.websockets import WebSocket

from millrace import __version__, log
from millrace.accounts.dashboard.feed import Feed
from millrace.accounts.dashboard.filters import Filters, read
from millrace.accounts.dashboard.rollups import Ended
from millrace.errors import EXITS, MillraceError
from millrace.principal import Principal
from millrace.web.admins import check_admin
from millrace.web.dashboard import at_this_moment, filters_of
from millrace.web.flood import FloodMeter
from millrace.web.outbox import AsgiWriter, FrameWriter, Outbox
from millrace.web.process import Process
from millrace.web.refusals import refusal
from millrace.web.socket_session import FAULT, Closed, Receive, close
from millrace.web.websocket import EXTENSION, HELD, TOO_BIG
from millrace.wire import dashboard as wire, reading, responses
from millrace.wire.limits import CloseCode

TICK_S, FIGURES_S = wire.TICK_MS / 1000, wire.FIGURES_MS / 1000
IDLE_S = 60.0  # after which the figures are sent although nothing has ended: the window has moved
GAP_S = 0.1  # before a tick, or other figures
NOW_EVERY = 5  # ticks
LONGEST = 4096  # bytes of a frame of the peer
MOST, MOST_OF_TENANT = 64, 16  # dashboards that are open at once
WAITING = 32  # pages of requests that wait for the next tick


async def live(websocket: WebSocket) -> None:
    """`GET /v1/dashboard/live` with an upgrade."""
    process, principal = websocket.state.process, websocket.state.principal
    try:
        check_admin(principal)
        filters = filters_of(websocket.query_params, process, principal)
        filters.window(process.wall())
        _check_room(process.feeds, principal.tenant)
    except MillraceError as error:
        await websocket.send_denial_response(refusal(error, websocket.scope))
        return
    process.feeds[principal.tenant] += 1  # at once: more may ask before this one is accepted
    try:
        await _show(websocket, process, principal, filters)
    finally:
        process.feeds[principal.tenant] -= 1


async def _show(websocket: WebSocket, process: Process, principal: Principal, filters: Filters) -> None:
    offered = wire.SUBPROTOCOL in websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=wire.SUBPROTOCOL if offered else None)
    writer = websocket.scope["extensions"].get(EXTENSION) or AsgiWriter(websocket.send)
    view = View(process, cast("FrameWriter", writer), principal, filters)
    try:
        await view.run(cast("Any", websocket.receive))
    except Closed as end:
        await close(websocket, writer, end.code, end.reason)
    except EXITS:
        raise
    except BaseException as error:
        log.get().error("dashboard crashed", exc_info=error)
        await close(websocket, writer, CloseCode.FAULT, FAULT)


class View:
    """One open dashboard."""

    def __init__(self, process: Process, writer: FrameWriter, principal: Principal, filters: Filters) -> None:
        self._process = process
        self._writer = writer
        self._principal = principal
        self._filters = filters
        self._sees_all = process.dashboard.sees_all(principal.tenant)
        writer.held = process.memory.hold(principal.tenant)
        self._outbox = Outbox(writer, process.turn)
        self._outbox.on_full = self._on_full
        self._feed = Feed(filters, process.clock())
        self._ended: deque[Ended] = deque(maxlen=WAITING)
        self._ticks = self._dropped = 0
        self._figures_at: float | None = None  # when they were sent last, by the clock
        self._has_news = False
        self._is_asked = False  # for other figures
        self._wake = asyncio.Event()  # there is something to send
        self._bad = FloodMeter()
        self._opened_at = self._moved_at = process.clock()
        self._unsent = 0
        self._end: asyncio.Future[Closed | None] = asyncio.get_running_loop().create_future()
        writer.on_lost = self._lost

    async def run(self, receive: Receive) -> None:
        """Show what ends until the peer is gone, or raise `Closed`."""
        process = self._process
        process.sessions.add(self)
        process.dashboard.rollups.watch(self._took)
        tasks = [asyncio.create_task(self._read(receive)), asyncio.create_task(self._show())]
        try:
            waited: list[asyncio.Future[Any]] = [*tasks, self._end]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            if self._end.done() and (closed := self._end.result()) is not None:
                raise closed
        finally:
            process.dashboard.rollups.unwatch(self._took)
            process.sessions.discard(self)
            process.busy.discard(self)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._outbox.flush()

    def start_closing(self, by: float, spread_s: float = 0.0) -> None:
        """Close: nothing of a dashboard is lost, and another process shows the same."""
        self._close(CloseCode.RESTART, "connect again")

    def sweep(self, now: float) -> None:
        """Do what is due. Called by the sweeper."""
        process, keyring = self._process, self._process.gate.keyring
        if not keyring.is_valid(self._principal.key_id):
            self._close(CloseCode.POLICY, "this key is no longer valid")
        elif process.dashboard.sees_all(self._principal.tenant) != self._sees_all:
            self._close(CloseCode.RESTART, "who sees all tenants has changed; connect again")
        elif now - self._opened_at >= process.max_age_s or not keyring.may_stay(self._principal):
            self._close(CloseCode.RESTART, "connect again")
        elif self._writer.is_late(now, process.stuck_s):
            self._close(CloseCode.POLICY, "a message came too slowly")
        if self._outbox.is_writable:
            process.busy.discard(self)
            return
        if self._outbox.is_half_closed:
            self._lost()
        unsent = self._outbox.unsent
        if unsent < self._unsent:
            self._moved_at = now
        self._unsent = unsent
        if now - self._moved_at >= process.stuck_s:
            self._close(CloseCode.SLOW_CONSUMER, "slow consumer")

    def _on_full(self) -> None:
        self._moved_at, self._unsent = self._process.clock(), 0
        self._process.busy.add(self)

    def _close(self, code: CloseCode, reason: str) -> None:
        if not self._end.done():
            self._end.set_result(Closed(code, reason))

    def _lost(self) -> None:
        if not self._end.done():
            self._end.set_result(None)

    def _took(self, ended: Ended) -> None:
        self._ended.append(ended)
        if ended.rows:
            self._has_news = True
            self._wake.set()

    def _put(self, frame: bytes) -> None:
        """Send a frame, or leave it out if the peer has not taken what was sent before."""
        if self._outbox.is_writable:
            self._outbox.put(frame)
        else:
            self._dropped += 1

    async def _show(self) -> None:
        """Send a tick when something has ended, and each second in any case; and the figures when they are due."""
        process, clock = self._process, self._process.clock
        hello = wire.Hello(
            epoch=process.epoch,
            version=__version__,
            now=process.wall(),
            tenant=self._principal.tenant,
            sees_all=self._sees_all,
        )
        self._put(msgspec.json.encode(hello))
        while True:
            since = None if self._figures_at is None else clock() - self._figures_at
            if since is None or self._is_asked or since >= (FIGURES_S if self._has_news else IDLE_S):
                await self._send_figures()
            await self._send_tick()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
                    await asyncio.sleep(GAP_S)  # more may come; of other filters the last ones count
            self._wake.clear()

    async def _send_figures(self) -> None:
        self._has_news = False
        self._is_asked = False
        self._figures_at = self._process.clock()
        filters = self._filters
        try:
            figures = await self._process.dashboard.figures(filters, sees_all=self._sees_all)
        except MillraceError as error:  # of a window that is too old by now
            self._put(responses.error_event(error))
            return
        except TimeoutError:
            self._has_news = True
            return
        if filters is self._filters:
            self._put(await asyncio.to_thread(msgspec.json.encode, wire.FiguresFrame(figures=figures)))

    async def _send_tick(self) -> None:
        process, feed = self._process, self._feed
        state = None
        if self._ticks % NOW_EVERY == 0:
            state = await at_this_moment(process, self._filters.tenant)
        self._ticks += 1
        ended = [*self._ended]
        self._ended.clear()
        now, wall = process.clock(), process.wall()

        def made() -> bytes:
            return msgspec.json.encode(feed.tick(ended, now, wall, self._dropped, state))

        self._put(await asyncio.to_thread(made))

    async def _read(self, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            text, held = message.get("text"), message.get(HELD)
            if held is not None:
                held.close()
            if TOO_BIG in message or held is not None or (text is not None and len(text) > LONGEST):
                raise Closed(CloseCode.TOO_BIG, f"frames are at most {LONGEST} bytes")
            if text is None:
                raise Closed(CloseCode.NOT_TEXT, "text frames only")
            try:
                self._watch(reading.decode(text))
            except MillraceError as error:
                self._process.metrics.figures.refused(error.code)
                self._put(responses.error_event(error))
                if self._bad.count(self._process.clock()):
                    raise Closed(CloseCode.POLICY, "too many bad frames") from None
            await asyncio.sleep(0)

    def _watch(self, fields: dict[str, Any]) -> None:
        """Look at something else from now on."""
        if fields.get("type") != "dashboard.watch":
            raise MillraceError("unknown_event", "type: expected dashboard.watch", param="type")
        watch = reading.convert(fields, wire.Watch)
        filters = read(watch, self._principal.tenant, sees_all=self._sees_all)
        filters.window(self._process.wall())
        self._filters, self._feed = filters, Feed(filters, self._process.clock())
        self._ended.clear()
        self._is_asked = True
        self._wake.set()


def _check_room(feeds: Counter[str], tenant: str) -> None:
    if feeds[tenant] >= MOST_OF_TENANT:
        message = f"{feeds[tenant]} dashboards of yours are open; close one and connect again"
    elif feeds.total() >= MOST:
        message = f"{MOST} dashboards are open on this server; connect again later"
    else:
        return
    raise MillraceError("overloaded", message, retry_after_ms=5000)
