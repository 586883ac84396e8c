"""The program of the schema process: compiles schemas and validates texts, one job after another.

It runs by its path and imports nothing of Millrace, so that it starts quickly and stays small. A job is the CPU seconds
it may take, schemas as JSON, a text or None, and whether to say what is wrong with the text. The process is killed by
its own timer when a job takes longer, because neither a compilation nor a validation can be interrupted. Compiled
schemas are kept while the process occupies at most `MAX_RESIDENT` bytes; above that it says that this was its last
answer, and ends.
"""

import os
import re
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import jsonschema_rs
import msgspec

MAX_RESIDENT = 96 * 2**20  # bytes of this process; some 25 MiB of them are Python
MAX_ADDRESSES = 2**30  # bytes; a hard limit, at which an allocation fails and the process ends
REGEX_BYTES = 2**20  # of one compiled pattern
MAX_PATHS = 8  # of patterns that are not checked; there may be thousands
MAX_FAULTS = 8  # of a text that are told
FAULT_CHARACTERS = 300  # of one that are told
THE_VALUE = "the value"  # stands for any value of a text in what is told of it
NICENESS = 5  # streams go first
LENGTH = struct.Struct("!I")  # before each message; as in `millrace.children.child`

# Engines without backtracking, which take time linear in the text, and the one that takes what they do not.
_LINEAR = jsonschema_rs.RegexOptions(size_limit=REGEX_BYTES, dfa_size_limit=REGEX_BYTES)
_BACKTRACKING = jsonschema_rs.FancyRegexOptions(size_limit=REGEX_BYTES, dfa_size_limit=REGEX_BYTES)

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_DATA = ("const", "enum", "default", "examples")
# Below these a subschema that allows more can make the whole allow less.
_INVERTING = {"not", "oneOf", "if", "maxContains", "unevaluatedProperties", "unevaluatedItems", "patternProperties"}
_PAGE = resource.getpagesize()

Step = str | int


def main() -> None:
    """Answer jobs until the other end closes."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the server says when to end
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # not every system bounds it
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES, MAX_ADDRESSES))
    os.nice(NICENESS)
    warnings.simplefilter("ignore")
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    while job := _read(jobs):
        seconds, schemas, text, explains = job
        signal.setitimer(signal.ITIMER_PROF, seconds)
        for answer in _answers(schemas, text, explains=explains):
            is_last = _resident() > MAX_RESIDENT
            _write(answers, [answer, is_last])
            if is_last:
                return
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answers(schemas: list[bytes], text: bytes | None, *, explains: bool) -> Iterator[Any]:
    """Yield, for each schema, what is wrong with it and what is not checked; for a text, whether it conforms.

    If it `explains`: what is wrong with the text.
    """
    if text is not None and explains:
        yield _faults(text, schemas[0] if schemas else None)
        return
    if text is not None:
        yield _conforms(text, schemas[0] if schemas else None)
        return
    for schema in schemas:
        try:
            yield None, _compiled(schema)[1]
        except ValueError as error:
            yield str(error).partition("\n")[0], []


def _conforms(text: bytes, schema: bytes | None) -> bool:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return schema is None or bool(_compiled(schema)[0].is_valid(value))


def _faults(text: bytes, schema: bytes | None) -> list[str]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        return [f"it is not JSON: {error}"[:FAULT_CHARACTERS]]
    if schema is None:
        return []
    faults = islice(_compiled(schema)[0].iter_errors(value), MAX_FAULTS)
    return [f"at {_shown(('$', *each.instance_path))}: {each.message}"[:FAULT_CHARACTERS] for each in faults]


@lru_cache(maxsize=512)
def _compiled(encoded: bytes) -> tuple[Any, list[str]]:
    """Return a validator, and the paths of what it leaves out; "" is the whole schema. Raises ValueError."""
    schema = msgspec.json.decode(encoded)
    try:
        return _validator(schema), []
    except ValueError:
        left_out = [(path, found) for path, found in _patterns(schema) if not _is_linear(found[-1])]
        if not left_out or not all(_is_pattern(found[-1]) for _, found in left_out):
            raise
    paths = [_shown(path) for path, _ in left_out]
    paths = [*paths[:MAX_PATHS], f"... ({len(paths) - MAX_PATHS} more)"] if len(paths) > MAX_PATHS else paths
    if not _INVERTING.isdisjoint(_keywords(schema)):
        return _validator({}), ["", *paths]
    for _, (holder, _) in left_out:
        del holder["pattern"]
    return _validator(schema), paths


def _validator(schema: Any) -> Any:
    # A client's schema must never make this server fetch a URL.
    return jsonschema_rs.validator_for(schema, retriever=_no_fetch, pattern_options=_LINEAR, mask=THE_VALUE)


def _no_fetch(uri: str) -> Any:
    raise ValueError(f"$ref to {uri} is not fetched; put the definition into the schema")


@lru_cache(maxsize=4096)
def _is_linear(pattern: str) -> bool:
    return _is_valid(pattern, _LINEAR)


def _is_pattern(pattern: str) -> bool:
    """Whether some engine takes it. What is too large for ours, Python's takes."""
    if _is_valid(pattern, _BACKTRACKING):
        return True
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _is_valid(pattern: str, options: Any) -> bool:
    try:
        jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=options)
    except ValueError:
        return False
    return True


def _patterns(schema: Any) -> Iterator[tuple[tuple[Step, ...], tuple[dict[str, Any], str]]]:
    """Yield the path of each pattern, with the schema that holds it."""
    for node, path in _subschemas(schema):
        if isinstance(node.get("pattern"), str):
            yield (*path, "pattern"), (node, node["pattern"])
        for key in node["patternProperties"] if isinstance(node.get("patternProperties"), dict) else ():
            yield (*path, "patternProperties", key), (node, key)


def _keywords(schema: Any) -> set[str]:
    return {key for node, _ in _subschemas(schema) for key in node}


def _subschemas(schema: Any) -> Iterator[tuple[dict[str, Any], tuple[Step, ...]]]:
    """Yield every object in the place of a schema, with its path."""
    pending: list[tuple[Any, tuple[Step, ...]]] = [(schema, ())]
    while pending:
        node, path = pending.pop()
        if isinstance(node, list):
            pending += [(child, (*path, index)) for index, child in enumerate(node)]
        elif isinstance(node, dict):
            yield node, path
            for key, child in node.items():
                if key in _MAPS and isinstance(child, dict):
                    pending += [(each, (*path, key, name)) for name, each in child.items()]
                elif key not in _DATA:
                    pending.append((child, (*path, key)))


def _shown(path: tuple[Step, ...]) -> str:
    steps = ""
    for step in path:
        if isinstance(step, str) and re.fullmatch(r"[\w$-]{1,64}", step):
            steps += f".{step}"
        else:
            steps += f"[{step}]" if isinstance(step, int) else f'["{step[:64]}"]'
    return steps.removeprefix(".")


def _resident() -> int:
    """Return the bytes of memory that this process occupies; where the system does not say, the most that it did."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _read(file: BinaryIO) -> Any:
    header = file.read(LENGTH.size)
    return msgspec.msgpack.decode(file.read(LENGTH.unpack(header)[0])) if len(header) == LENGTH.size else None


def _write(file: BinaryIO, message: Any) -> None:
    data = msgspec.msgpack.encode(message)
    file.write(LENGTH.pack(len(data)) + data)
    file.flush()


if __name__ == "__main__":
    main()
