"""Cancels at random moments, fewer than by hand (`python -m tests.fire.cancels`)."""

import itertools
from pathlib import Path

import pytest

from millrace.wire.limits import RELEASED_S
from tests.fire import cancels

CANCELS = 100


@pytest.mark.timeout(240)
async def test_cancels_at_random_moments_leave_nothing(tmp_path: Path) -> None:
    """No task, socket, reservation or open row; and the models' sockets close soon."""
    fired, took = await cancels.run(CANCELS, 1, 4, tmp_path)
    assert fired.watch.faults == {}
    times = list(itertools.chain(*took.values()))
    assert len(times) > CANCELS / 5
    assert min(times) < RELEASED_S  # how long most take is measured where nothing else runs
