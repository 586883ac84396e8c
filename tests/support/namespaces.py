"""Hosts of their own on this machine: network namespaces, each with one cable to where the tests run."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Host:
    """One host. What is started with `prefix` runs on it."""

    name: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that is to run there."""
        return [_program(), "netns", "exec", self.name]

    def cut(self) -> None:
        """Pull its cable: nothing arrives on either side, and nobody is told."""
        _ip("-n", self.name, "link", "set", "there", "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("-n", self.name, "link", "set", "there", "up")


@contextmanager
def host() -> Iterator[Host]:
    """Make a host, which is gone at the end with all that it has. Skips the test where that is not permitted."""
    number, pid = next(_numbers), os.getpid()
    name, cable = f"millrace-{pid}-{number}", f"mr{pid % 100_000}-{number}"
    network = f"10.{200 + pid // 250 % 50}.{pid % 250}"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces need iproute2 and CAP_NET_ADMIN and CAP_SYS_ADMIN: {error}")
    try:
        first = 4 * number
        _ip("link", "add", cable, "type", "veth", "peer", "name", "there", "netns", name)
        _ip("address", "add", f"{network}.{first + 1}/30", "dev", cable)
        _ip("link", "set", cable, "up")
        _ip("-n", name, "address", "add", f"{network}.{first + 2}/30", "dev", "there")
        _ip("-n", name, "link", "set", "there", "up")
        yield Host(name, f"{network}.{first + 2}")
    finally:
        _ip("netns", "delete", name)


def _program() -> str:
    found = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError("ip is not installed")
    return found


def _ip(*arguments: str) -> None:
    subprocess.run([_program(), *arguments], check=True, capture_output=True)
