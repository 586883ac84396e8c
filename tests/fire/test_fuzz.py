"""Hostile input at a server, shorter than by hand (`python -m tests.fire.frames`, `python -m tests.fire.bytes`)."""

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from millrace.errors import MillraceError
from millrace.wire import asyncapi, requests, ui_messages
from tests.fire import bytes as raw, frames, watch
from tests.fire.grammar import Frames, Ids
from tests.fire.talking import CHAT, RESPONSES

CONTRACT = asyncapi.document("test")
FRAMES, REQUESTS, MUTATIONS = 500, 160, 900


@pytest.fixture(autouse=True)
def turns_may_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the longest one takes is measured by the commands: here it is traced, and others use the same core."""
    monkeypatch.setattr(watch, "HANG_S", 3.0)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_any_frame_is_read_or_refused(random: Random) -> None:
    """Nothing else is raised, whatever is wrong with it; what fails is made smaller."""
    made = Frames(CONTRACT, random, Ids())
    frame = made.next(RESPONSES, "e").text.encode("utf-8", "replace").decode()
    with suppress(MillraceError):
        envelope = requests.open_frame(frame)
        requests.check_ids(envelope)
        if envelope.type == "response.create":
            requests.read_create(envelope.fields, ())
    frame = made.next(CHAT, "e").text.encode("utf-8", "replace").decode()
    with suppress(MillraceError):
        envelope = ui_messages.open_frame(frame)
        ui_messages.check_ids(envelope)
        if envelope.type == "send":
            ui_messages.read_send(envelope, ())


@pytest.mark.timeout(240)
async def test_frames_of_the_grammar_are_answered_whatever_is_wrong_with_them(tmp_path: Path) -> None:
    fired, seen = await frames.run(FRAMES, REQUESTS, 1, tmp_path, parts=1)
    assert fired.watch.faults == {}
    assert seen["response.completed"] > 0
    assert seen["error: invalid_request"] > 0


@pytest.mark.timeout(240)
async def test_bytes_that_know_nothing_hurt_nothing(tmp_path: Path) -> None:
    fired, seen = await raw.run(MUTATIONS, 1, tmp_path, parts=1)
    assert fired.watch.faults == {}
    assert seen["half-closed, and closed"] > 0
    assert seen["frames of the server"] > 0
