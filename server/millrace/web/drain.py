"""The drain before a process ends (PROTOCOL.md, Draining)."""

import asyncio

from millrace.runs.intake import draining
from millrace.web.liveness import FLUSH_S
from millrace.web.process import Process
from millrace.wire import limits

SPREAD_PER_SESSION_S = 0.02  # for each connection, so that not all clients connect again at once
POLL_S = 0.05


async def drain(process: Process) -> None:
    """Refuse new requests, let running ones go on for `drain_s` seconds, fail the rest; return when all is over.

    A peer that takes longer than `LAST_WORDS_S` to read how its requests ended is not waited for.
    """
    process.intake.closed = process.gate.draining = True
    process.hand_over()
    spread_s = min(limits.SPREAD_S, SPREAD_PER_SESSION_S * len(process.sessions))
    give_up_at = process.clock() + process.drain_s
    while process.sessions or process.streams or process.runs.running or process.embeddings.running:
        now = process.clock()
        for session in tuple(process.sessions):  # in each round: one may have been accepted just before
            session.start_closing(give_up_at, spread_s)
        if now >= give_up_at:
            for run in process.runs.running:  # those of HTTP, and those nobody listens to
                run.halt(draining())
            process.embeddings.end_all(draining())
        if now >= give_up_at + FLUSH_S + spread_s:
            for stream in tuple(process.streams):
                stream.give_up(draining())
            return
        await asyncio.sleep(POLL_S)
