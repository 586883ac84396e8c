"""Reads a compose file, and says what is wrong with it: names that lead nowhere, and what is open that need not be."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

TOP = {"name", "services", "networks", "volumes"}
SERVICE = {
    *("image", "build", "command", "entrypoint", "environment", "env_file", "volumes", "networks", "network_mode"),
    *("ports", "expose", "depends_on", "healthcheck", "restart", "profiles", "user", "stop_grace_period"),
    *("read_only", "tmpfs", "cap_drop", "security_opt"),
}
HEALTHCHECK = {"test", "interval", "timeout", "retries", "start_period", "disable"}
STARTED, HEALTHY, DONE = "service_started", "service_healthy", "service_completed_successfully"

Service = Mapping[str, Any]


def read(text: str) -> dict[str, Any]:
    """Return a compose file with all that is merged into its parts. Raises `ValueError` where a key stands twice."""
    _refuse_twice(yaml.compose(text, yaml.SafeLoader))
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def faults(document: Mapping[str, Any], folder: Path, our_image: str) -> Iterator[str]:
    """Yield what is wrong. `folder` has the file; the image of ours has a user and a health check of its own."""
    yield from (f"{name} is no section" for name in document if name not in TOP and not name.startswith("x-"))
    services: dict[str, Service] = document["services"]
    for name, service in services.items():
        yield from (f"{name}: {key} is not known" for key in service if key not in SERVICE)
        yield from (f"{name}: {fault}" for fault in _of_names(service, services, document))
        yield from (f"{name}: {fault}" for fault in _of_dependencies(service, services, our_image))
        yield from (f"{name}: {fault}" for fault in _of_files(service, document, folder))
        yield from (f"{name}: {fault}" for fault in _of_what_is_open(service, our_image))
    yield from _of_circles(services)
    for section in ("networks", "volumes"):
        used = {each for service in services.values() for each in _used(service, section)}
        yield from (f"nobody uses {each} of {section}" for each in document.get(section, {}) if each not in used)


def networks_of(service: Service, services: Mapping[str, Service]) -> set[str]:
    """Return the networks of a service, or of the one whose network it shares."""
    if mode := service.get("network_mode"):
        return networks_of(services[mode.removeprefix("service:")], services)
    return set(service.get("networks", ["default"]))


def seconds(time: str) -> float:
    """Return a time such as 50s or 1m30s."""
    parts = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", time)
    assert parts is not None
    return 60 * int(parts[1] or 0) + int(parts[2] or 0)


def _refuse_twice(node: Any) -> None:
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"line {node.start_mark.line + 1}: {', '.join(twice)} is written twice")
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for each in child if isinstance(child, tuple) else (child,):
                _refuse_twice(each)


def _of_names(service: Service, services: Mapping[str, Service], document: Mapping[str, Any]) -> Iterator[str]:
    if mode := service.get("network_mode"):
        if "networks" in service:
            yield "it has networks and network_mode"
        if mode.removeprefix("service:") not in services:
            yield f"no service is called {mode.removeprefix('service:')}"
    yield from (
        f"no network is called {each}"
        for each in service.get("networks", ())
        if each not in document.get("networks", ())
    )
    if "image" not in service and "build" not in service:
        yield "it has no image"
    _, colon, tag = service.get("image", "").rpartition(":")
    if colon and tag == "latest":
        yield "its image has no version"


def _of_dependencies(service: Service, services: Mapping[str, Service], our_image: str) -> Iterator[str]:
    yield from (f"healthcheck.{key} is not known" for key in service.get("healthcheck", {}) if key not in HEALTHCHECK)
    for name, wanted in service.get("depends_on", {}).items():
        if name not in services:
            yield f"no service is called {name}"
            continue
        condition, on = wanted["condition"], services[name]
        checked = on.get("healthcheck", {"disable": on.get("image") != our_image})
        if condition not in (STARTED, HEALTHY, DONE):
            yield f"{condition} is no condition"
        if condition == HEALTHY and checked.get("disable"):
            yield f"it waits for the health of {name}, which has no health check"
        if condition == DONE and on.get("restart") != "no":
            yield f"it waits for the end of {name}, which is started again"
        if set(on.get("profiles", ())) - set(service.get("profiles", ())):
            yield f"it waits for {name}, which starts only with a profile"


def _of_files(service: Service, document: Mapping[str, Any], folder: Path) -> Iterator[str]:
    for volume in service.get("volumes", ()):
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            if not (folder / source).exists():
                yield f"{source} does not exist"
        elif source not in document.get("volumes", ()):
            yield f"no volume is called {source}"
        if not target.startswith("/"):
            yield f"{target} is no absolute path"
    for file in service.get("env_file", ()):
        if file.get("required", True) and not (folder / file["path"]).exists():
            yield f"{file['path']} does not exist"
    if build := service.get("build"):
        context = folder / build["context"]
        if not (context / build["dockerfile"]).is_file():
            yield f"{build['dockerfile']} does not exist"


def _of_what_is_open(service: Service, our_image: str) -> Iterator[str]:
    yield from (f"{port} is open to others" for port in service.get("ports", ()) if not port.startswith("127.0.0.1:"))
    if "no-new-privileges:true" not in service.get("security_opt", ()):
        yield "it may get new privileges"
    if service.get("image", "").startswith("postgres:"):
        return  # it becomes another user itself, for which it starts as root
    if service.get("image") != our_image and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.get("user", "")):
        yield "it runs as root"
    if not service.get("read_only"):
        yield "its root can be written"
    if service.get("cap_drop") != ["ALL"]:
        yield "it has capabilities"


def _of_circles(services: Mapping[str, Service]) -> Iterator[str]:
    """Say which services wait for each other."""
    waiting = {name: set(service.get("depends_on", {})) & set(services) for name, service in services.items()}
    while ready := {name for name, on in waiting.items() if not on & set(waiting)}:
        waiting = {name: on for name, on in waiting.items() if name not in ready}
    if waiting:
        yield f"{', '.join(sorted(waiting))} wait for each other"


def _used(service: Service, section: str) -> set[str]:
    return {each.partition(":")[0] for each in service.get(section, ())}
