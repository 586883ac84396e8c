"""`millrace cache rules`: the catalogue that the guards use."""

import json

from click.testing import CliRunner

from millrace.__main__ import main
from millrace.caches.guards import RULES


def test_the_catalogue_has_every_rule_with_its_examples() -> None:
    result = CliRunner().invoke(main, ["cache", "rules", "--json"])
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == list(RULES)
    assert {row["kind"] for row in rows} == {"hard", "soft"}
    assert all(row["reason"] and row["objects"] and row["agrees"] for row in rows)


def test_the_table_names_every_rule() -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["cache", "rules"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in RULES)
