"""Faults of `[metrics]` and `[traces]` that have the right type and still cannot work."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from millrace.settings.faults import Fault, at

_INSTALL = "OpenTelemetry is not installed, which sends traces; run: pip install 'millrace[otel]'"
_EXPORTER = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def invalid_telemetry(tree: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield faults of what is shown of a process, and of where it is sent."""
    variable = at(tree, "metrics", "key_env")
    if isinstance(variable, str):
        if not variable.isidentifier():  # it may be the key itself, which is not repeated
            advice = 'write the name of the variable that holds the key: key_env = "MILLRACE_METRICS_KEY"'
            yield Fault("metrics.key_env", f"it is no name of a variable; {advice}")
        elif not environ.get(variable, "").strip():
            advice = f"run: export {variable}=$(openssl rand -hex 32) (or leave key_env out)"
            yield Fault("metrics.key_env", f"the variable {variable} is not set; {advice}")
    endpoint = at(tree, "traces", "endpoint")
    if not isinstance(endpoint, str):
        return
    if not _is_url(endpoint):
        advice = 'write that of a collector, without /v1/traces: endpoint = "http://127.0.0.1:4318"'
        yield Fault("traces.endpoint", f"it is no URL; {advice}")
    if not all(map(_is_installed, _EXPORTER)):
        yield Fault("traces.endpoint", _INSTALL)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_plain = not (parts.query or parts.fragment or "@" in parts.netloc)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and is_plain
    except ValueError:
        return False
