"""What always holds, in sequences that nobody wrote: some by hand-turned time, a few over real sockets.

Far more of them run by `python -m tests.stateful --sequences 20000 --sockets 500`.
"""

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from millrace.errors import UpstreamError
from tests.stateful import sockets
from tests.stateful.clients import Asked, Caller, Peer
from tests.stateful.machine import Machine
from tests.stateful.simulation import FREE, HTTP, World, body_of, frame_of, others_of

MET = (
    *("response.completed", "response.failed", "response.incomplete", "millrace.revise", "told again"),
    *("cache joined", "call revised", "call cancelled", "ended cancelled cancelled", "ended failed server_draining"),
)


@pytest.mark.timeout(300)  # where it fails, the sequence is made as short as can be
def test_what_always_holds_by_a_hand_turned_clock() -> None:
    """The same sequences each time, and every kind of thing happens in them."""
    Machine.met.clear()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=250,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert not [what for what in MET if not Machine.met[what]]


@pytest.mark.parametrize("seed", [1])
async def test_what_always_holds_over_sockets(seed: int) -> None:
    """Ten walks, some at once, and a drain under load at the end."""
    met = await sockets.walks(10, seed)
    assert met["response.completed"]
    assert met["told again"]


@pytest.fixture
def world() -> Iterator[World]:
    """A process by a hand-turned clock, which comes to its end with nothing left over."""
    world = World()
    try:
        yield world
        world.end("answer")
    finally:
        world.close()


def ask(world: World, peer: Peer, mark: str, **options: object) -> None:
    peer.listener.expect(Asked(mark, None, mark))
    fields = {"input": f"alpha {mark}", "event_id": mark, "metadata": {"mark": mark}, "millrace": options}
    world.act(partial(peer.send, frame_of("response.create", **fields)))


@pytest.mark.parametrize("apart", range(4))
@pytest.mark.parametrize("cancel_first", [False, True])
def test_a_model_that_fails_just_when_it_is_cancelled_is_heard(world: World, apart: int, *, cancel_first: bool) -> None:
    """The end of the world looks for errors that nobody has asked for."""
    world.connect(FREE, negotiated=True)
    ask(world, world.peers[0], "alpha-1", strategy="small")
    (run,) = world.runs.running
    fail = partial(world.attempts[0].say, UpstreamError("upstream_error", "it broke"))
    one, other = (run.cancel, fail) if cancel_first else (fail, run.cancel)
    world.collide(one, other, apart)
    assert run.is_over


def test_an_answer_over_http_that_fails_leaves_no_task_behind(world: World) -> None:
    """While its client keeps the connection."""
    caller = Caller(world.books, FREE, others_of("alpha"), "", world.faults)
    body = body_of(frame_of("response.create", input="alpha", millrace={"cache": "only"}))
    world.call(caller, HTTP["create"], body)
    assert caller.status == 404
    assert caller.is_here


def test_a_request_that_comes_to_its_turn_too_late_asks_no_model(world: World) -> None:
    """It waited behind another in its lane for longer than it had."""
    world.connect(FREE, negotiated=True)
    ask(world, world.peers[0], "alpha-1")
    ask(world, world.peers[0], "alpha-2", deadline_ms=700)
    world.turn(0.8)
    world.act(partial(world.runs.running[0].cancel))
    assert len(world.attempts) == 1
    assert [entry.code for entry in world.rows.entries.values()] == ["cancelled", "deadline_exceeded"]


def test_a_drain_ends_connections_that_begin_just_after_it(world: World) -> None:
    """They were let in before, and would keep it waiting for as long as they live."""
    world.connect(FREE, negotiated=True)
    world.together = 1
    world.begin_drain()
    world.connect(FREE, negotiated=True)
    assert world.peers[1].is_here
    world.turn(10)
    assert [peer.closed for peer in world.peers] == [1012, 1012]
    assert world.drain is not None
    assert world.drain.done()
