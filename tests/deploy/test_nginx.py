"""`deploy/nginx.conf`: read here in any case, and by nginx where it is installed."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from millrace.wire import limits
from tests.deploy.compose import read
from tests.support.paths import REPOSITORY
from tests.support.ports import free_port

TEXT = (REPOSITORY / "deploy" / "nginx.conf").read_text("utf-8")
PAGE = (REPOSITORY / "docs" / "nginx.md").read_text("utf-8")
_TOKEN = re.compile(r'\s+|#[^\n]*|("[^"]*"|[^\s;{}"]+)|([;{}])')


class Directive(NamedTuple):
    """A directive, with those inside its braces; None: it has no braces."""

    name: str
    values: tuple[str, ...]
    inside: "list[Directive] | None"

    def all(self, name: str) -> "list[Directive]":
        """Return those of one name that are inside."""
        return [each for each in self.inside or () if each.name == name]


def tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"a quote is not closed: {text[at : at + 20]!r}")
        at = found.end()
        if word := found[1] or found[2]:
            yield word


def directives(text: str) -> Directive:
    """Return all of a file, inside of a directive without a name. Raises `ValueError` where it is not whole."""
    open_ones, words = [Directive("", (), [])], list[str]()
    for token in tokens(text):
        inside = open_ones[-1].inside
        assert inside is not None
        if token not in (";", "{", "}"):
            words.append(token)
            continue
        if (token == "}") != (not words) or (token == "}" and len(open_ones) == 1):
            raise ValueError(f"{token!r} comes after {' '.join(words) or 'nothing'}")
        if token == "}":
            open_ones.pop()
            continue
        inside.append(Directive(words[0], tuple(words[1:]), [] if token == "{" else None))
        if token == "{":
            open_ones.append(inside[-1])
        words = []
    if words or len(open_ones) > 1:
        raise ValueError("it ends too early")
    return open_ones[0]


def one(within: Directive, *path: str) -> Directive:
    for name in path:
        (within,) = within.all(name)
    return within


def location(server: Directive, *path: str) -> Directive:
    (found,) = [each for each in server.all("location") if each.values == path]
    return found


def services() -> dict[str, Any]:
    found: dict[str, Any] = read((REPOSITORY / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    return found


def seconds(within: Directive, name: str) -> float:
    return float(one(within, name).values[0].removesuffix("s"))


@pytest.mark.parametrize("text", ["a { b c; ", "a; }", "a b", "a { b }", 'a "b;', "{ a; }"])
def test_what_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ends too early|comes after|not closed"):
        directives(text)


def test_it_asks_the_replicas_of_the_compose_file() -> None:
    beside = services()
    http = one(directives(TEXT), "http")
    upstream = one(http, "upstream")
    asked = {each.values[0] for each in upstream.all("server")}
    assert asked == {f"{name}:{beside[name]['expose'][0]}" for name in beside if name.startswith("replica")}
    for each in one(http, "server").all("location"):
        for passed in each.all("proxy_pass"):
            assert passed.values == (f"http://{upstream.values[0]}",)
    listened = one(http, "server", "listen").values[0]
    assert [port.rpartition(":")[2] for port in beside["nginx"]["ports"]] == [listened]
    assert f"http://127.0.0.1:{listened}/healthz" in beside["nginx"]["healthcheck"]["test"]


def test_it_lets_streams_and_websockets_through() -> None:
    http = one(directives(TEXT), "http")
    all_else = location(one(http, "server"), "/")
    assert one(all_else, "proxy_buffering").values == ("off",)
    assert one(all_else, "proxy_http_version").values == ("1.1",)
    headers = {each.values[0]: each.values[1] for each in all_else.all("proxy_set_header")}
    variable = one(http, "map").values[1]
    assert headers == {"Host": "$http_host", "Upgrade": "$http_upgrade", "Connection": variable}
    assert {each.name: each.values for each in one(http, "map").inside or ()} == {
        "default": ("upgrade",),
        '""': ('""',),
    }
    assert seconds(all_else, "proxy_read_timeout") > 2 * limits.HEARTBEAT_S


def test_it_writes_to_what_a_container_may_write() -> None:
    """Its root is read-only, and it is no root."""
    whole = directives(TEXT)
    http = one(whole, "http")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = [one(whole, "pid"), *(one(http, f"{kind}_temp_path") for kind in kinds)]
    assert {each.values[0].rpartition("/")[0] for each in paths} == set(services()["nginx"]["tmpfs"])
    assert one(whole, "error_log").values[0] == "stderr"
    assert one(http, "access_log").values == ("off",)
    assert int(one(http, "server", "listen").values[0]) >= 1024


@pytest.mark.parametrize("example", re.findall(r"^```nginx\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
def test_the_examples_of_the_page_are_read(example: str) -> None:
    assert directives(example).inside


def test_nginx_takes_it(tmp_path: Path) -> None:
    """Nginx itself where it is installed. It looks up the names of the replicas, which exist only beside them."""
    (folder,) = services()["nginx"]["tmpfs"]
    text = re.sub(r"server replica\d:", "server 127.0.0.1:", TEXT).replace(f"{folder}/", f"{tmp_path}/")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{free_port()}")
    assert len(one(directives(text), "http", "upstream").all("server")) == 2
    if program := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        file = tmp_path / "nginx.conf"
        file.write_text(text, "utf-8")
        tried = subprocess.run([program, "-t", "-c", str(file)], capture_output=True, text=True, check=False)
        assert tried.returncode == 0, tried.stderr
