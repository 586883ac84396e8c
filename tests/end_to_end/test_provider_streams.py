"""Answers of providers in any mixture of their quirks, over every wire; `python -m tests.grammar` asks for more."""

from pathlib import Path

import pytest

from tests.grammar.run import run
from tests.grammar.stream import BROKEN

STREAMS = 2000


@pytest.mark.untraced
@pytest.mark.timeout(300)
async def test_every_readable_stream_is_read_whole_and_no_other_is_an_answer(tmp_path: Path) -> None:
    """Text, calls, finish, usage and cost are exact; no part of an answer is completed or stored."""
    report = await run(STREAMS, 1, tmp_path)
    assert report.wrong == []
    assert report.completed + report.failed == STREAMS
    assert report.stored > STREAMS / 5
    for kind in ("readable", *BROKEN):
        assert report.streams[kind] >= STREAMS * 0.05, kind
