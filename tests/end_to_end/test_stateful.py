"""What always holds, in sequences that nobody wrote: some by a manual clock, a few over real sockets.

Far more of them run by `python -m tests.stateful --sequences 20000 --sockets 500`.
"""

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from millrace.errors import UpstreamError
from tests.stateful import sockets
from tests.stateful.clients import HttpClient, PendingRequest, WebSocketClient
from tests.stateful.machine import Machine
from tests.stateful.simulation import FREE, HTTP, Simulation, body_of, frame_of, others_of

MUST_HAPPEN = (
    *("response.completed", "response.failed", "response.incomplete", "millrace.revise", "replayed"),
    *("cache joined", "call revised", "call cancelled", "ended cancelled cancelled", "ended failed server_draining"),
)


@pytest.mark.untraced
@pytest.mark.timeout(300)  # where it fails, the sequence is made as short as can be
def test_what_always_holds_by_a_hand_turned_clock() -> None:
    """The same sequences each time, and every kind of thing happens in them."""
    Machine.happened.clear()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=250,
            stateful_step_count=40,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert not [what for what in MUST_HAPPEN if not Machine.happened[what]]


@pytest.mark.untraced
@pytest.mark.parametrize("seed", [1])
async def test_what_always_holds_over_sockets(seed: int) -> None:
    """Ten walks, some at once, and a drain under load at the end."""
    happened = await sockets.walks(10, seed)
    assert happened["response.completed"]
    assert happened["replayed"]


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """A process with a manual clock, which comes to its end with nothing left over."""
    simulation = Simulation()
    try:
        yield simulation
        simulation.end("answer")
    finally:
        simulation.close()


def ask(simulation: Simulation, client: WebSocketClient, mark: str, **options: object) -> None:
    client.checker.expect(PendingRequest(mark, None, mark))
    fields = {"input": f"alpha {mark}", "event_id": mark, "metadata": {"mark": mark}, "millrace": options}
    simulation.act(partial(client.send, frame_of("response.create", **fields)))


@pytest.mark.parametrize("apart", range(4))
@pytest.mark.parametrize("cancel_first", [False, True])
def test_a_model_that_fails_just_when_it_is_cancelled_is_heard(
    simulation: Simulation, apart: int, *, cancel_first: bool
) -> None:
    """The end of the world looks for errors that nobody has asked for."""
    simulation.connect(FREE, negotiated=True)
    ask(simulation, simulation.clients[0], "alpha-1", strategy="small")
    (run,) = simulation.runs.running
    fail = partial(simulation.attempts[0].say, UpstreamError("upstream_error", "it broke"))
    one, other = (run.cancel, fail) if cancel_first else (fail, run.cancel)
    simulation.collide(one, other, apart)
    assert run.is_over


def test_an_answer_over_http_that_fails_leaves_no_task_behind(simulation: Simulation) -> None:
    """While its client keeps the connection."""
    http_client = HttpClient(simulation.received, FREE, others_of("alpha"), "", simulation.faults)
    body = body_of(frame_of("response.create", input="alpha", millrace={"cache": "only"}))
    simulation.call(http_client, HTTP["create"], body)
    assert http_client.status == 404
    assert http_client.is_here


def test_a_request_that_comes_to_its_turn_too_late_asks_no_model(simulation: Simulation) -> None:
    """It waited behind another in its lane for longer than it had."""
    simulation.connect(FREE, negotiated=True)
    ask(simulation, simulation.clients[0], "alpha-1")
    ask(simulation, simulation.clients[0], "alpha-2", deadline_ms=700)
    simulation.advance(0.8)
    simulation.act(partial(simulation.runs.running[0].cancel))
    assert len(simulation.attempts) == 1
    assert [entry.code for entry in simulation.ledger.entries.values()] == ["cancelled", "deadline_exceeded"]


def test_a_drain_ends_connections_that_begin_just_after_it(simulation: Simulation) -> None:
    """They were let in before, and would keep it waiting for as long as they live."""
    simulation.connect(FREE, negotiated=True)
    simulation.together = 1
    simulation.begin_drain()
    simulation.connect(FREE, negotiated=True)
    assert simulation.clients[1].is_here
    simulation.advance(10)
    assert [client.closed for client in simulation.clients] == [1012, 1012]
    assert simulation.drain is not None
    assert simulation.drain.done()
