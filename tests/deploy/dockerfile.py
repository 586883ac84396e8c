"""Reads a Dockerfile, and says what is wrong with it."""

import json
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

KNOWN = {
    *("FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE"),
    *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
}
AS_LOCKED = {"--no-deps", "--no-build-isolation", "--require-hashes", "--only-binary"}


class Instruction(NamedTuple):
    """One instruction; continued lines are joined, and remarks between them are left out."""

    name: str
    text: str


class Stage(NamedTuple):
    """What is between two FROM."""

    image: str
    name: str
    instructions: list[Instruction]

    def all(self, name: str) -> list[str]:
        """Return the texts of the instructions of one name."""
        return [each.text for each in self.instructions if each.name == name]


def instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile. Raises `ValueError` where a line is none."""
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = ""
    for line in lines:
        if not line and not joined:
            continue
        joined += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        name, _, rest = joined.partition(" ")
        if name not in KNOWN or not rest.strip():
            raise ValueError(f"no instruction: {joined!r}")
        yield Instruction(name, rest.strip())
        joined = ""
    if joined:
        raise ValueError(f"the last line goes on: {joined!r}")


def stages(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    found: list[Stage] = []
    for each in instructions(text):
        if each.name == "FROM":
            image, *named = each.text.split()
            found.append(Stage(image, named[1] if named else "", []))
        elif not found:
            raise ValueError(f"{each.name} comes before FROM")
        else:
            found[-1].instructions.append(each)
    return found


def faults(text: str, ignored: str, context: Path) -> Iterator[str]:
    """Yield what is wrong. `ignored` is the text of its .dockerignore; `context` is the folder of the build."""
    found = stages(text)
    for number, stage in enumerate(found):
        yield from _of_images(stage)
        for copy in stage.all("COPY"):
            yield from _of_copy(copy, {each.name for each in found[:number]}, ignored, context)
        yield from _of_installs(stage)
    yield from _of_the_image(found[-1])


def healthcheck(stage: Stage) -> list[str]:
    """Return the command of the health check, with its arguments."""
    (text,) = stage.all("HEALTHCHECK")
    command: list[str] = json.loads(text.partition("CMD")[2])
    return command


def _of_images(stage: Stage) -> Iterator[str]:
    image, _, tag = stage.image.partition(":")
    if not tag or tag == "latest":
        yield f"{image} has no version"


def _of_copy(copy: str, earlier: set[str], ignored: str, context: Path) -> Iterator[str]:
    words = copy.split()
    flags = [word for word in words if word.startswith("--")]
    *sources, _ = [word for word in words if not word.startswith("--")]
    if stage := next((flag.removeprefix("--from=") for flag in flags if flag.startswith("--from=")), None):
        if stage not in earlier:
            yield f"no stage is called {stage}"
        return
    for source in sources:
        if not (context / source).exists():
            yield f"{source} does not exist"
        elif not _is_sent(source, ignored):
            yield f"{source} is not sent to Docker"


def _is_sent(source: str, ignored: str) -> bool:
    """Whether the last pattern that fits lets it through. A folder lets through what is in it."""
    is_sent = True
    for line in ignored.splitlines():
        pattern = line.strip()
        lets_through = pattern.startswith("!")
        if pattern and not pattern.startswith("#") and fnmatch(source, pattern.removeprefix("!")):
            is_sent = lets_through
    return is_sent


def _of_installs(stage: Stage) -> Iterator[str]:
    """Say what pip could resolve, what it would take with any hash, and what would run on this processor alone."""
    is_portable, copied = False, set[str]()
    for each in stage.instructions:
        is_portable = is_portable or (each.name == "ENV" and "HNSWLIB_NO_NATIVE=1" in each.text.split())
        if each.name == "COPY":
            copied |= set(each.text.split()[:-1])
        if each.name != "RUN":
            continue
        for command in re.split(r"\s*&&\s*", each.text):
            words = shlex.split(command)
            if words[:2] != ["pip", "install"]:
                continue
            locks = [after for word, after in pairwise(words) if word == "--requirement"]
            wanted = AS_LOCKED if locks else {"--no-deps", "--no-build-isolation"}
            yield from (f"pip install without {flag}: {' '.join(locks)}" for flag in wanted - set(words))
            yield from (f"{lock} is not copied before it is installed" for lock in locks if lock not in copied)
            if "hnswlib" in words and not is_portable:
                yield "hnswlib is compiled for the processor of this machine"


def _of_the_image(stage: Stage) -> Iterator[str]:
    users = stage.all("USER")
    if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
        yield "it runs as root, or as a user by name, which Kubernetes cannot tell from root"
    if not stage.all("HEALTHCHECK"):
        yield "it has no health check"
    for name in ("ENTRYPOINT", "CMD"):
        if any(not text.startswith("[") for text in stage.all(name)):
            yield f"{name} is run by a shell, which passes no signal on"
        for text in stage.all(name):
            json.loads(text)
