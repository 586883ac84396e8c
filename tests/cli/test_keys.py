"""The command `keys`, and a server that is open to others."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from millrace.__main__ import main
from millrace.cli.keys import check_access
from millrace.settings import ServerSettings
from millrace.stores.database import FILE
from tests.support.keys import add_key, keys_command
from tests.support.paths import REPOSITORY

KEY = re.compile(r"mr_[0-9a-f]{12}_[0-9a-f]{64}")


def test_a_key_is_added_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    """The key alone is on standard output; neither the list nor the file has it."""
    options = ("--role", "admin", "--name", "ci", "--requests-per-minute", "60", "--dollars-per-day", "2.50")
    text = add_key(tmp_path, "--tenant", "acme", *options)
    assert KEY.fullmatch(text)
    key_id, secret = text.split("_")[1:]
    listed = keys_command(tmp_path, "list").stdout
    for words in (key_id, "acme", "admin", "ci", "60 requests/min, 2.50 $/day"):
        assert words in listed
    assert secret not in listed
    assert all(secret.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    assert keys_command(tmp_path, "revoke", key_id).exit_code == 0
    again = keys_command(tmp_path, "revoke", key_id)
    assert (again.exit_code, "no such key that is still good" in again.stderr) == (1, True)


def test_a_key_is_rotated_by_its_id_or_its_name(tmp_path: Path) -> None:
    """The new key alone is on standard output; the list says until when the old one is good."""
    old = add_key(tmp_path, "--tenant", "acme", "--name", "ci")
    rotated = keys_command(tmp_path, "rotate", "ci", "--grace", "24h")
    new = rotated.stdout.strip()
    assert KEY.fullmatch(new)
    assert (new[:16], new != old) == (old[:16], True)
    assert "the new key of 'acme' (use); it is not shown again. The old one works until 20" in rotated.stderr
    assert "good until 20" in keys_command(tmp_path, "list").stdout
    again = keys_command(tmp_path, "rotate", old, "--grace", "0")
    assert "is refused from now on" in again.stderr
    assert "The one before that, which still worked, is refused from now on" in again.stderr
    assert "ended 20" in keys_command(tmp_path, "list").stdout


def test_what_cannot_be_rotated(tmp_path: Path) -> None:
    """No such key, a name of two, a revoked one."""
    for _ in range(2):
        add_key(tmp_path, "--tenant", "acme", "--name", "ci")
    revoked = add_key(tmp_path, "--tenant", "acme", "--name", "gone").split("_")[1]
    keys_command(tmp_path, "revoke", revoked)
    for named, words in (
        ("nothing", "no such key that is still good"),
        ("ci", "2 keys have this name; write the id of one: "),
        (revoked, "no such key that is still good"),
        ("gone", "no such key that is still good"),
        ("", "no such key that is still good"),
    ):
        result = keys_command(tmp_path, "rotate", named)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr


def test_keys_of_an_earlier_version_can_be_rotated(tmp_path: Path) -> None:
    """Its table lacks the columns."""
    text = add_key(tmp_path, "--tenant", "acme")
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        for column in ("rotations", "earlier_digest", "earlier_until"):
            file.execute(f"ALTER TABLE keys DROP COLUMN {column}")
    assert keys_command(tmp_path, "rotate", text).exit_code == 0
    assert "good until" in keys_command(tmp_path, "list").stdout


def test_a_key_opts_out_of_evidence(tmp_path: Path) -> None:
    add_key(tmp_path, "--tenant", "acme", "--name", "first")
    add_key(tmp_path, "--tenant", "acme", "--name", "second", "--no-evidence")
    listed = keys_command(tmp_path, "list").stdout
    ((wants,), (wants_not,)) = ([line for line in listed.splitlines() if name in line] for name in ("first", "second"))
    assert "none" in wants_not
    assert "none" not in wants


def test_keys_of_an_earlier_version_are_judged_as_before(tmp_path: Path) -> None:
    """Its table lacks the column."""
    text = add_key(tmp_path, "--tenant", "acme", "--name", "old")
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        file.execute("ALTER TABLE keys DROP COLUMN evidence")
    add_key(tmp_path, "--tenant", "acme", "--no-evidence")
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        found = file.execute("SELECT id, evidence FROM keys ORDER BY created_at").fetchall()
    assert [evidence for _, evidence in found] == [1, 0]
    assert found[0][0] == text.split("_")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("add",),
        ("add", "--tenant", "(evidence)"),
        ("add", "--tenant", " "),
        ("add", "--tenant", "a", "--role", "root"),
        ("add", "--tenant", "a", "--in-flight", "0"),
        *(("add", "--tenant", "a", "--dollars-per-day", amount) for amount in ("-1", "nan", "inf", "cheap")),
        ("revoke",),
        ("rotate",),
        *(("rotate", "ci", "--grace", time) for time in ("24", "-1h", "1.5h", "1y", "h", "400d", "")),
    ],
)
def test_a_wrong_call_adds_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2."""
    assert keys_command(tmp_path, *arguments).exit_code == 2
    assert keys_command(tmp_path, "list").stdout.count("\n") == 4  # an empty table


def test_keys_need_a_folder(tmp_path: Path) -> None:
    """Memory keeps none; a file is no folder."""
    result = keys_command(Path(":memory:"), "add", "--tenant", "acme")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "keeps nothing" in result.stderr
    (tmp_path / "file").write_text("")
    assert keys_command(tmp_path / "file" / "below", "add", "--tenant", "acme").exit_code == 2


def test_the_configured_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --data-dir."""
    monkeypatch.setenv("MILLRACE__SERVER__DATA_DIR", str(tmp_path / "kept"))
    result = CliRunner().invoke(
        main, ["keys", "add", "--tenant", "acme", "--config", str(REPOSITORY / "millrace.toml")]
    )
    assert result.exit_code == 0
    with closing(sqlite3.connect(tmp_path / "kept" / FILE)) as file:
        assert file.execute("SELECT tenant FROM keys").fetchall() == [("acme",)]


def test_a_server_open_to_others_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything listens, with both ways out; a revoked key is no worse than a good one there."""
    monkeypatch.setenv("MILLRACE__SERVER__DATA_DIR", str(tmp_path))
    arguments = ["serve", "--config", str(REPOSITORY / "millrace.toml"), "--host", "0.0.0.0", "--port", "1"]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "server.host: '0.0.0.0' is open to others, and there is no key" in result.stderr
    assert "millrace keys add" in result.stderr
    assert "127.0.0.1" in result.stderr


def test_a_server_open_to_others_may_start_with_a_key(tmp_path: Path) -> None:
    """Any other host than loopback."""
    add_key(tmp_path)
    assert check_access(ServerSettings(host="0.0.0.0", data_dir=str(tmp_path))) == ""
    assert check_access(ServerSettings(host="127.0.0.1", data_dir=str(tmp_path))) == ""
    assert "millrace keys add" in check_access(ServerSettings(host="127.0.0.1", data_dir=str(tmp_path / "new")))
