"""The end of a process: nobody is cut who can finish in time, and not all connections come back at once."""

import asyncio

from millrace.runs.intake import draining
from millrace.web.liveness import LAST_WORDS_S
from millrace.web.process import Process
from millrace.wire import limits

SPREAD_PER_SESSION_S = 0.02  # over which connections close, for each
LOOK_S = 0.05


async def drain(process: Process) -> None:
    """Close the door, let what runs go on for `drain_s` seconds, fail the rest; return when all has been told.

    A peer that takes too long to read its last words is not waited for.
    """
    process.intake.closed = process.gate.draining = True
    spread_s = min(limits.SPREAD_S, SPREAD_PER_SESSION_S * len(process.sessions))
    give_up_at = process.clock() + process.drain_s
    while process.sessions or process.streams or process.runs.running:
        now = process.clock()
        for session in tuple(process.sessions):  # also those who were at the door when it closed
            session.start_closing(give_up_at, spread_s)
        if now >= give_up_at:
            for run in process.runs.running:  # those of HTTP, and those nobody listens to
                run.halt(draining())
        if now >= give_up_at + LAST_WORDS_S + spread_s:
            for stream in tuple(process.streams):
                stream.give_up(draining())
            return
        await asyncio.sleep(LOOK_S)
