"""The image: what it is built from is there, nothing is resolved, and it needs neither root nor this processor."""

import ast
import asyncio
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from millrace.assembly import key_store
from millrace.principal import Key
from millrace.settings import SharedSettings
from tests.deploy.dockerfile import Stage, faults, healthcheck, stages
from tests.support.paths import REPOSITORY
from tests.support.shared_servers import postgres_server

DEPLOY = REPOSITORY / "deploy"
TEXT = (DEPLOY / "Dockerfile").read_text("utf-8")
IGNORED = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8")


def last() -> Stage:
    return stages(TEXT)[-1]


def test_it_has_no_fault() -> None:
    assert list(faults(TEXT, IGNORED, REPOSITORY)) == []
    assert len(stages(TEXT)) == 2
    assert "apt-get" not in str(last())  # no compiler in what is shipped


@pytest.mark.parametrize(
    ("was", "is_now", "fault"),
    [
        ("USER 10001:10001\n", "", "it runs as root"),
        ("USER 10001:10001", "USER millrace", "it runs as root"),
        ("USER 10001:10001", "USER 0:10001", "it runs as root"),
        ("ENV HNSWLIB_NO_NATIVE=1\n", "", "hnswlib is compiled for the processor"),
        ("ENV HNSWLIB_NO_NATIVE=1", "ENV HNSWLIB_NO_NATIVE=0", "hnswlib is compiled for the processor"),
        ("--no-deps --no-build-isolation .", "--no-build-isolation .", "pip install without --no-deps"),
        ("--require-hashes ", "", "pip install without --require-hashes"),
        ("COPY server server", "COPY sever server", "sever does not exist"),
        ("COPY server server", "COPY tests tests", "tests is not sent"),
        ("COPY deploy/requirements.txt deploy/\n", "", "deploy/requirements.txt is not copied"),
        ("--from=build", "--from=built", "no stage is called built"),
        ("python:3.13-slim-bookworm AS", "python AS", "python has no version"),
        ('ENTRYPOINT ["millrace"]', "ENTRYPOINT millrace", "ENTRYPOINT is run by a shell"),
    ],
)
def test_a_fault_is_found(was: str, is_now: str, fault: str) -> None:
    assert was in TEXT
    assert any(found.startswith(fault) for found in faults(TEXT.replace(was, is_now), IGNORED, REPOSITORY))


@pytest.mark.parametrize("text", ["RUN true", "FROM python:3.13\nRUM true", "FROM python:3.13\nRUN true \\"])
def test_what_is_no_dockerfile_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"before FROM|no instruction|goes on"):
        stages(text)


def test_what_a_wheel_needs_is_copied() -> None:
    """The build of the wheel includes files that hatchling would only miss inside the container."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *project["project"]["license-files"], "pyproject.toml"}
    copied = {source for text in stages(TEXT)[0].all("COPY") for source in text.split()[:-1]}
    assert {name for name in needed if name not in copied and name.partition("/")[0] not in copied} == set()


def test_it_installs_what_the_makefile_does() -> None:
    """And beyond that what replicas need, in the versions that are tested here."""
    installed = set(re.findall(r"--requirement (\S+)", TEXT))
    made = set(re.findall(r"-r (requirements\S*\.txt)", (REPOSITORY / "Makefile").read_text("utf-8")))
    assert installed == made - {"requirements-dev.txt"} | {"deploy/requirements.txt"}
    pin = re.compile(r"^[a-z][\w-]*==.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
    extra = pin.findall((DEPLOY / "requirements.txt").read_text("utf-8"))
    assert [name.partition("=")[0] for name in extra] == [
        "async-timeout",
        "psycopg",
        "psycopg-binary",
        "redis",
        "tzdata",
    ]
    assert set(extra) <= set(pin.findall((REPOSITORY / "requirements-dev.txt").read_text("utf-8")))


def test_its_health_check_runs() -> None:
    """Where nobody listens it fails; it is asked in tests/deploy/test_compose.py whether the port is right."""
    program, flag, code = healthcheck(last())
    assert (program, flag) == ("python", "-c")
    ast.parse(code)
    nobody = code.replace(":8000", ":1")
    assert subprocess.run([sys.executable, flag, nobody], capture_output=True, check=False).returncode == 1


def test_its_setup_makes_tables_and_a_key_that_all_replicas_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first_key = tmp_path / "first-key"
    setup = runpy.run_path(str(DEPLOY / "setup.py"))["main"]
    monkeypatch.setenv("MILLRACE_CONFIG", str(DEPLOY / "millrace.toml"))
    monkeypatch.setenv("MILLRACE_FIRST_KEY", str(first_key))
    monkeypatch.setenv("MILLRACE__SERVER__DATA_DIR", str(tmp_path / "setup"))
    with postgres_server() as postgres:
        monkeypatch.setenv("MILLRACE__SHARED__POSTGRES", postgres.url)
        assert setup() == 0
        begun = capfd.readouterr()
        assert "has the tables of this version" in begun.out
        secret = first_key.read_text("utf-8").strip()
        assert secret.startswith("mr_")
        assert secret not in begun.out + begun.err
        assert first_key.stat().st_mode & 0o077 == 0
        assert setup() == 0  # a second start makes no other key
        assert first_key.read_text("utf-8").strip() == secret
        (known,) = asyncio.run(keys_of(tmp_path / "replica2", postgres.url))
        assert (known.principal.tenant, known.revoked_at) == ("default", None)
        postgres.kill()
        assert setup() == 3  # and replicas that wait for it do not start


async def keys_of(folder: Path, postgres: str) -> list[Key]:
    """Return the keys that a replica knows."""
    async with key_store(str(folder), SharedSettings(postgres=postgres)) as store:
        return await store.load()
