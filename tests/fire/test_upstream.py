"""A sample of the cells of `python -m tests.fire.upstream`: each kind, place, API and reader is in it."""

import itertools

import pytest

from tests.fire import stage
from tests.fire.models import Kind, Line
from tests.fire.streams import APIS, PLACES, Position
from tests.fire.upstream import READERS, Cell, matrix

REPEAT = 2


def sample() -> list[Cell]:
    """Return two cells of each kind, one of silence; answers that are cut off in each API; each fault of the line."""
    places, makers = itertools.cycle(PLACES), itertools.cycle(itertools.product(APIS, READERS))
    kinds = [kind for kind in Kind for _ in range(1 if kind is Kind.STALL else 2)]
    cells = [Cell(next(places), kind, *next(makers)) for kind in kinds]
    cut_off = [Cell(Position.LAST, Kind.END, api, READERS[at % 2]) for at, api in enumerate(APIS)]  # all but the end
    return [*cells, *cut_off, *(Cell(Position.LINE, line, *next(makers)) for line in Line)]


def test_the_sample_has_everything() -> None:
    cells = sample()
    assert {cell.kind for cell in cells} == {*Kind, *Line}
    assert {cell.position for cell in cells} == {*Position}
    assert {(cell.api, cell.reader) for cell in cells} == {*itertools.product(APIS, READERS)}


async def test_every_answer_is_right_whatever_its_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SILENCE_S", 2.0)
    found, tasks = await matrix(sample(), REPEAT, seed=18, stages=1)
    assert found.wrong == {}
    assert found.runs >= len(sample()) * REPEAT
    assert tasks == 0
