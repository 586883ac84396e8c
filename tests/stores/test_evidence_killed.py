"""A process that is killed while it judges loses no verdict that was shown, and judges none twice.

`MILLRACE_KILLS=50` kills that often.
"""

import asyncio
import json
import os
import random
from pathlib import Path

from click.testing import CliRunner

from millrace.__main__ import main
from millrace.stores.database import SqliteDatabase
from tests.support.judging_process import kept_in
from tests.support.killed import killed

KILLS = int(os.environ.get("MILLRACE_KILLS", "5"))
LONGEST_S = 1.0  # that a process may judge
ALL = 10**6

Shown = dict[str, tuple[str, str]]  # by id of the sample: the request, and what was said


def printed(folder: Path) -> int:
    """Return how many verdicts `millrace evidence` counts, beside the process."""
    ended = CliRunner().invoke(main, ["evidence", "--json", "--data-dir", str(folder)])
    assert ended.exit_code == 0, ended.output
    return sum(each["false_alarms"]["judged"] for each in json.loads(ended.stdout)["checks"])


async def shown_until_killed(folder: Path, choice: random.Random) -> tuple[Shown, int]:
    """Have a process judge, and kill it at some moment; return what it showed, and how much was printed."""
    async with killed("tests.support.judging_process", folder, choice, LONGEST_S) as lines:
        count = await asyncio.to_thread(printed, folder)
    shown: Shown = {}
    for line in lines:
        id_, request_id, says = line.split()
        shown[id_] = request_id, says
    return shown, count


async def test_what_was_shown_is_there_after_a_kill_and_nothing_twice(tmp_path: Path) -> None:
    """With what was said of it at first, though the process tried to store it again."""
    choice = random.Random(5)
    shown: Shown = {}
    for _ in range(KILLS):
        said, count = await shown_until_killed(tmp_path, choice)
        shown |= said
        database = SqliteDatabase(str(tmp_path))
        kept = await kept_in(database).judged(None, 0.0, ALL)
        await asyncio.to_thread(database.close)
        found = {each.sample.id: (each.sample.request_id, each.opinions[0].says.value) for each in kept}
        assert shown.items() <= found.items()
        assert {len(each.opinions) for each in kept} <= {1}
        requests = [each.sample.request_id for each in kept]
        assert len(requests) == len(set(requests))
        assert len(kept) >= count
    assert len(shown) > KILLS
