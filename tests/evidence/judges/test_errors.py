"""What the judges that need no network say of the labelled pairs stays as good as the figures in the docs."""

from millrace.evidence.judges import judges_of
from millrace.types import Says
from tests.measure_judges import first, labelled, said


async def test_misses_and_alarms_are_few() -> None:
    pairs = labelled()
    says = first([await said(judge, pairs) for judge in judges_of(None, None)])
    misses = sum(each is Says.SAME and not pair.same for each, pair in zip(says, pairs, strict=True))
    alarms = sum(each is Says.DIFFERENT and pair.same for each, pair in zip(says, pairs, strict=True))
    known = sum(each is not Says.UNSURE for each in says)
    assert misses <= 0.03 * sum(not pair.same for pair in pairs)
    assert alarms <= 0.05 * sum(pair.same for pair in pairs)
    assert known >= 0.5 * len(pairs)
