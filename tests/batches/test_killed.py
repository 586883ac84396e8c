"""A batch outlives its process: killed, drained, replaced."""

from pathlib import Path

import pytest

from tests.batches.killing import IN_FLIGHT, killed


@pytest.mark.timeout(240)
async def test_a_batch_whose_server_is_killed_has_each_answer_once(tmp_path: Path) -> None:
    """At most what was on its way is paid again, and the ledger has a row for it."""
    lines, kills = 60, 3
    found = await killed(tmp_path, lines, kills)
    assert (found["answers"], found["answered once"]) == (lines, lines)
    assert 0 <= found["paid again"] <= kills * IN_FLIGHT
    assert lines <= found["completed"]
    assert found["killed"] <= kills * IN_FLIGHT
    assert found["calls"] - kills * IN_FLIGHT <= found["rows in the ledger"] <= lines + kills * IN_FLIGHT
