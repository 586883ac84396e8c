"""A replay predicts what the same requests cost under other settings on a real server (`tests/measure_replay.py`)."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from millrace.settings import Settings
from tests.support.replayed import ran, replayed, workload

WAS: dict[str, dict[str, Any]] = {
    "router": {"large_share": 0.5, "learns": False},  # so that scores are the same in both runs
    "evidence": {"judged": False},
}


async def test_other_settings_are_predicted(tmp_path: Path) -> None:
    asked = workload(100, seed=3, hard=0.0)
    now = await ran(tmp_path / "was", asked, sections=WAS)
    same = await replayed(now)
    assert same.happened == same.replayed

    def other(was: Settings) -> Settings:
        cache, router = replace(was.cache, semantic=False), replace(was.router, large_share=0.2)
        return replace(was, cache=cache, router=router)

    said = (await replayed(now, other)).replayed
    again = await ran(
        tmp_path / "again",
        asked,
        sections=WAS | {"cache": {"semantic": False}, "router": {"large_share": 0.2, "learns": False}},
    )
    found = (await replayed(again)).happened
    assert abs(said.cost_usd / found.cost_usd - 1) < 0.15
    assert abs(said.hit_rate - found.hit_rate) < 0.03
    assert abs(said.large_share - found.large_share) < 0.04
    assert said.semantic == found.semantic == 0
