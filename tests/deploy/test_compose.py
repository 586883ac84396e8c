"""`deploy/compose.yaml`: every name leads somewhere, and the settings of the replicas are those of one service."""

import copy
import tomllib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from millrace import settings
from tests.deploy.compose import faults, networks_of, read, seconds
from tests.deploy.dockerfile import healthcheck, stages
from tests.support.paths import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text("utf-8")
READ = read(TEXT)
IMAGE = "millrace"
REPLICAS = ("replica1", "replica2")
DRAIN_MORE_S = 20  # than server.drain_s: docs/deployment.md


@pytest.fixture
def compose() -> dict[str, Any]:
    return copy.deepcopy(READ)


def environment(service: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a service, with the defaults of those that a user may set."""
    return {
        name: value.replace("${POSTGRES_PASSWORD:-millrace}", "secret")
        for name, value in service["environment"].items()
    }


def configured(service: dict[str, Any]) -> settings.Settings:
    """Return the settings of a service, from the file that it mounts and its variables."""
    assert "./millrace.toml:/etc/millrace/millrace.toml:ro" in service["volumes"]
    variables = {name: value for name, value in environment(service).items() if name.startswith("MILLRACE__")}
    return settings.build(tomllib.loads((DEPLOY / "millrace.toml").read_text("utf-8")), variables)


def test_it_has_no_fault(compose: dict[str, Any]) -> None:
    assert list(faults(compose, DEPLOY, IMAGE)) == []
    assert set(compose["services"]) == {*REPLICAS, "setup", "nginx", "redis", "postgres", "models1", "models2"}


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *above, last = path
        for name in above:
            document = document[name]
        del document[last]

    return change


def having(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *above, last = path
        for name in above:
            document = document[name]
        document[last] = value

    return change


S = "services"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (having({}, "service"), "service is no section"),
        (having(1, S, "redis", "cpu"), "redis: cpu is not known"),
        (without(S, "replica2"), "nginx: no service is called replica2"),
        (without("networks", "stores"), "replica1: no network is called stores"),
        (without("volumes", "data"), "replica1: no volume is called data"),
        (having({}, "volumes", "more"), "nobody uses more of volumes"),
        (having(["./nothing:/x"], S, "nginx", "volumes"), "nginx: ./nothing does not exist"),
        (having([{"path": "nothing.env"}], S, "setup", "env_file"), "setup: nothing.env does not exist"),
        (having({"context": "..", "dockerfile": "File"}, S, "setup", "build"), "setup: File does not exist"),
        (without(S, "postgres", "healthcheck"), "setup: it waits for the health of postgres"),
        (having("always", S, "setup", "restart"), "replica1: it waits for the end of setup"),
        (having(["demo"], S, "replica1", "profiles"), "nginx: it waits for replica1, which starts only with a profile"),
        (having({"nginx": {"condition": "service_started"}}, S, "setup", "depends_on"), "models1, models2, nginx, "),
        (having("service:replica9", S, "models1", "network_mode"), "models1: no service is called replica9"),
        (having(["0.0.0.0:6379:6379"], S, "redis", "ports"), "redis: 0.0.0.0:6379:6379 is open to others"),
        (without(S, "redis", "user"), "redis: it runs as root"),
        (without(S, "replica1", "read_only"), "replica1: its root can be written"),
        (without(S, "nginx", "cap_drop"), "nginx: it has capabilities"),
        (without(S, "postgres", "security_opt"), "postgres: it may get new privileges"),
        (having({"tests": []}, S, "redis", "healthcheck"), "redis: healthcheck.tests is not known"),
    ],
)
def test_a_fault_is_found(compose: dict[str, Any], change: Callable[[Any], None], fault: str) -> None:
    change(compose)
    found = list(faults(compose, DEPLOY, IMAGE))
    assert any(each.startswith(fault) for each in found), found


def test_a_key_that_is_written_twice_is_found() -> None:
    with pytest.raises(ValueError, match="line 3: image is written twice"):
        read("services:\n  redis:\n    image: redis:7\n    image: redis:8\n")


def test_the_replicas_are_one_service(compose: dict[str, Any]) -> None:
    """They share the same stores under the same name, and have each its own folder and address."""
    first, second = (configured(compose[S][name]) for name in REPLICAS)
    assert (first.shared.redis, first.shared.postgres, first.shared.name) == (
        second.shared.redis,
        second.shared.postgres,
        second.shared.name,
    )
    assert first.server.data_dir != second.server.data_dir
    assert configured(compose[S]["setup"]).shared.postgres == first.shared.postgres
    for one, name in zip((first, second), REPLICAS, strict=True):
        service = compose[S][name]
        assert one.shared.address == f"http://{name}:{one.server.port}"
        mounted = {volume.split(":")[1] for volume in service["volumes"] if volume.startswith("data:")}
        assert any(one.server.data_dir.startswith(f"{folder}/") for folder in mounted)
        assert seconds(service["stop_grace_period"]) >= one.server.drain_s + DRAIN_MORE_S
        assert one.server.host == "0.0.0.0"
    assert "/etc/millrace/millrace.toml" in stages((DEPLOY / "Dockerfile").read_text("utf-8"))[-1].all("CMD")[0]


def test_what_is_reached_has_the_port_and_a_network_in_common(compose: dict[str, Any]) -> None:
    services = compose[S]
    ports = {"redis": 6379, "postgres": 5432, **{name: int(services[name]["expose"][0]) for name in REPLICAS}}
    for name in (*REPLICAS, "setup"):
        shared = configured(services[name]).shared
        for url in (shared.redis, shared.postgres, shared.address):
            if url is None:
                continue
            parts = urlsplit(url)
            assert parts.hostname is not None
            assert ports[parts.hostname] == parts.port
            assert networks_of(services[parts.hostname], services) & networks_of(services[name], services)
    image = stages((DEPLOY / "Dockerfile").read_text("utf-8"))[-1]
    assert image.all("EXPOSE") == [str(ports["replica1"])]
    assert f"127.0.0.1:{ports['replica1']}/healthz" in healthcheck(image)[2]
    assert configured(services["replica1"]).server.port == ports["replica1"] == ports["replica2"]
    assert all(networks_of(services["nginx"], services) & networks_of(services[name], services) for name in REPLICAS)


def test_nobody_but_the_replicas_reaches_the_stores(compose: dict[str, Any]) -> None:
    services = compose[S]
    assert compose["networks"]["stores"] == {"internal": True}
    for name in ("redis", "postgres"):
        assert networks_of(services[name], services) == {"stores"}
        assert "ports" not in services[name]
    assert "stores" not in networks_of(services["nginx"], services)


def test_postgres_lets_in_whom_the_replicas_name(compose: dict[str, Any]) -> None:
    made = environment(compose[S]["postgres"])
    parts = urlsplit(configured(compose[S]["replica1"]).shared.postgres or "")
    asked = (parts.username, parts.password, parts.path.removeprefix("/"))
    assert asked == (made["POSTGRES_USER"], made["POSTGRES_PASSWORD"], made["POSTGRES_DB"])
    checked = compose[S]["postgres"]["healthcheck"]["test"]
    assert {"--username", made["POSTGRES_USER"], "--dbname", made["POSTGRES_DB"]} <= set(checked)


def test_redis_evicts_first_what_may_go_first(compose: dict[str, Any]) -> None:
    command = compose[S]["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "volatile-ttl"
    assert command[command.index("--save") + 1] == ""
