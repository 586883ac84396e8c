"""A sample of `python -m tests.fire.clients`, with less patience; and what it has found, each for itself."""

import socket

import pytest

from millrace.web import websocket
from millrace.wire import limits
from tests.fire import clients
from tests.fire.clients import CASES, DOORS, FULL, WHOLE, Case, Fault, measure

STUCK_S = 1.0
SAMPLE = [Case(fault, DOORS[at % len(DOORS)]) for at, fault in enumerate(Fault)]
PROBES = ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 1))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEARTBEAT_S", STUCK_S)
    monkeypatch.setattr(websocket, "KEEP_ALIVE", PROBES)
    monkeypatch.setattr(clients, "HOLE_S", 3 * STUCK_S + 2)


async def test_every_fault_of_a_client_ends_as_it_should() -> None:
    found, left = await measure(SAMPLE, repeat=1, seed=18, at_once=8, stuck_s=STUCK_S)
    assert [wrong for one in found.values() for wrong in one.wrong] == []
    assert left == []
    assert all(one.runs == 1 for one in found.values())


async def test_a_client_that_is_lost_without_a_word_is_given_up() -> None:
    """Its system would be sent the same for a quarter of an hour, and the socket has room for all that its model says.

    Over HTTP, also where nothing is sent before the end. Over the WebSocket a pong is missed.
    """
    cases = [Case(Fault.LOST, door) for door in (*DOORS, WHOLE)]
    found, left = await measure(cases, repeat=1, seed=1, at_once=len(cases), stuck_s=STUCK_S)
    assert [wrong for one in found.values() for wrong in one.wrong] == []
    assert left == []


async def test_a_client_that_dies_with_its_socket_full_ends_its_request() -> None:
    """After a FIN, what was not sent yet held the connection over HTTP open, and the model was read for `stuck_s`."""
    cases = [case for case in CASES if case.is_full]
    assert {case.fault for case in cases} == {*FULL}
    found, left = await measure(cases, repeat=1, seed=1, at_once=len(cases))
    assert [wrong for one in found.values() for wrong in one.wrong] == []
    assert left == []
