"""A sample of the cells of `python -m tests.fire.upstream`: each kind, place, API and reader is in it."""

import itertools

from tests.fire.models import Kind
from tests.fire.streams import APIS, Position
from tests.fire.upstream import READERS, Cell, matrix

REPEAT = 3


def sample() -> list[Cell]:
    """Return two cells of each kind, at places that differ; stalls take long, so they are few."""
    places, makers = itertools.cycle(Position), itertools.cycle(itertools.product(APIS, READERS))
    kinds = [kind for kind in Kind for _ in range(1 if kind is Kind.STALL else 2)]
    return [Cell(next(places), kind, *next(makers)) for kind in kinds]


def test_the_sample_has_everything() -> None:
    cells = sample()
    assert {cell.kind for cell in cells} == {*Kind}
    assert {cell.position for cell in cells} == {*Position}
    assert {(cell.api, cell.reader) for cell in cells} == {*itertools.product(APIS, READERS)}


async def test_every_answer_is_right_whatever_its_model_does() -> None:
    found, tasks = await matrix(sample(), REPEAT, seed=18, stages=1)
    assert found.wrong == {}
    assert found.runs >= len(sample()) * REPEAT
    assert tasks == 0
