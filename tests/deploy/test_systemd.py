"""`deploy/millrace.service`: read here in any case, and by systemd where it is installed."""

import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import click

from millrace.__main__ import main
from millrace.settings import ServerSettings
from tests.support.paths import REPOSITORY

FILE = REPOSITORY / "deploy" / "millrace.service"
TEXT = FILE.read_text("utf-8")
KNOWN = {
    "Unit": {"Description", "After", "Wants"},
    "Service": {
        *(
            "User",
            "StateDirectory",
            "StateDirectoryMode",
            "WorkingDirectory",
            "EnvironmentFile",
            "ExecStart",
            "ExecReload",
        ),
        *(
            "TimeoutStopSec",
            "Restart",
            "RestartSec",
            "LimitNOFILE",
            "UMask",
            "NoNewPrivileges",
            "CapabilityBoundingSet",
        ),
        *("ProtectSystem", "ProtectHome", "ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups"),
        *("PrivateTmp", "PrivateDevices", "RestrictAddressFamilies", "RestrictSUIDSGID", "LockPersonality"),
    },
    "Install": {"WantedBy"},
}


def unit() -> ConfigParser:
    """Return the unit. The parser refuses a key that stands twice."""
    parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names are read as they are written
    parser.read_string(TEXT)
    return parser


def test_every_key_is_one_of_systemd() -> None:
    """A key that is written wrong is only a warning of systemd, and does nothing."""
    found = {section: set(unit()[section]) for section in unit().sections()}
    assert set(found) == set(KNOWN)
    assert {section: names - KNOWN[section] for section, names in found.items()} == {key: set() for key in KNOWN}


def test_it_starts_a_command_that_exists() -> None:
    program, *words = shlex.split(unit()["Service"]["ExecStart"])
    assert Path(program).is_absolute()
    assert Path(program).name == "millrace"
    command = main.get_command(click.Context(main), words[0])
    assert command is not None
    command.make_context("serve", [*words[1:-1], str(REPOSITORY / "millrace.toml")])


def test_it_waits_for_the_drain() -> None:
    service = unit()["Service"]
    assert float(service["TimeoutStopSec"]) >= ServerSettings().drain_s + 20
    assert "-HUP" in shlex.split(service["ExecReload"])
    assert service["Restart"] == "always"


def test_it_may_write_where_its_data_is_and_nowhere_else() -> None:
    service = unit()["Service"]
    assert service["User"] != "root"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "true"
    assert service["CapabilityBoundingSet"] == ""
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert not Path(ServerSettings().data_dir).is_absolute()  # so it is below the working directory


def test_the_page_shows_it() -> None:
    page = (REPOSITORY / "docs" / "systemd.md").read_text("utf-8")
    assert re.findall(r"^```ini\n(.*?)^```", page, re.MULTILINE | re.DOTALL) == [TEXT]


def test_systemd_takes_it(tmp_path: Path) -> None:
    """Systemd itself where it is installed. It looks whether the program is there, so it is told one that is."""
    text, count = re.subn(r"(?<=^ExecStart=)\S+", sys.executable, TEXT, flags=re.MULTILINE)
    assert count == 1
    if program := shutil.which("systemd-analyze"):
        file = tmp_path / "millrace.service"
        file.write_text(text, "utf-8")
        tried = subprocess.run([program, "verify", "--man=no", str(file)], capture_output=True, text=True, check=False)
        assert "millrace.service" not in tried.stderr, tried.stderr
        assert tried.returncode == 0, tried.stderr
