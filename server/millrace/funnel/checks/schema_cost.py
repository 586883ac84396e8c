"""An upper bound for the work of validating a value against a JSON schema, known before validation. Pure.

Work is counted in visits: one visit is one schema applied to one value. If subschemas apply to the same value again and
again, the number of visits is a power of the schema's length. A validation cannot be interrupted, so a timeout would
not help: the bound decides whether it is started.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_VISITS = 3_000_000  # of one validation: about 50 ms
MAX_OF_ONE = 300_000  # visits of one value, one of its children, and so on down to USUAL_DEPTH
USUAL_DEPTH = 4
MAX_SIZE = 20_000  # subschemas, counted once for each place that applies them
MAX_STEPS = 200_000  # of computing the bound: levels of the value times the size of a recursive schema
MAX_CHAIN = 64  # of schemas that consist of a $ref only

_ALL = ("allOf", "anyOf", "oneOf")  # lists of schemas that apply to the same value
_ONE = ("not", "if", "then", "else")
_NAMED = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OF_VALUES = ("additionalProperties", "unevaluatedProperties", "propertyNames")  # apply to any value of an object
_OF_ITEMS = ("items", "additionalItems", "unevaluatedItems", "contains")
_BELOW = {"properties", "prefixItems", "patternProperties", *_OF_VALUES, *_OF_ITEMS}
_LEADING_ON = {*_ALL, *_ONE, *_NAMED, *_REFERENCES, *_BELOW, "$id", "id"}
_LISTED = ("properties", "required", "dependentRequired")  # checked one by one, quickly:
_LISTED_PER_VISIT = 4
_MEMBER = 30  # visits that cost as much as comparing a value with one member of an enum of mixed or compound types
_PATTERN = 4  # visits that cost as much as matching a key against one pattern
_TEXT_PER_VISIT = 100  # characters of strings that cost as much as a visit
_PATTERN_PLACE = 0  # the place that stands for matching a key against a pattern

Schema = dict[str, Any]
_Places = dict[int, int]  # place -> how often it is applied
_Tag = tuple[str, str] | None  # a key and its constant: of schemas with different constants only one can match


@dataclass(slots=True)
class _Below:
    """The places that apply to the children of a value."""

    keyed: dict[str | int, _Places] = field(default_factory=dict)  # to the child at a key or an index
    values: _Places = field(default_factory=dict)  # to every value of an object
    items: _Places = field(default_factory=dict)  # to every item of an array

    def visits(self, below: dict[int, int]) -> int:
        """Return the most visits of one child; `below`: the visits that each place causes there."""
        values, items = _sum(self.values, below), _sum(self.items, below)
        keyed = (_sum(at, below) + (values if isinstance(key, str) else items) for key, at in self.keyed.items())
        return max(values, items, max(keyed, default=0))


@dataclass(slots=True)
class _Place:
    """A schema with all schemas that apply to the same value because of it."""

    visits: int = 0
    below: dict[_Tag, _Below] = field(default_factory=dict)

    def deeper(self, below: dict[int, int]) -> int:
        """Return the visits of a value one level deeper than those that `below` holds."""
        by_key: dict[str, int] = {}  # tags of one key exclude each other, so only the most expensive one counts
        for tag, children in self.below.items():
            key = tag[0] if tag else ""
            by_key[key] = max(by_key.get(key, 0), children.visits(below))
        return min(sum(by_key.values()), MAX_VISITS)


class SchemaCost:
    """The work of one schema. Raises ValueError if it is unbounded, or too much for a value of usual depth."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._id = "id" if "draft-04" in str(schema.get("$schema")) else "$id"
        self._anchors: dict[str, list[Schema]] = {}
        self._find_anchors()
        self._places: dict[int, _Place] = {_PATTERN_PLACE: _Place(_PATTERN)}
        self._size = 0
        self._start = self._explore(schema)
        self._levels = [{at: place.visits for at, place in self._places.items()}]
        if sum(map(self._visits, range(USUAL_DEPTH + 1))) > MAX_OF_ONE:
            raise ValueError("its alternatives multiply; write fewer $ref, allOf, anyOf and oneOf within one another")

    def allows(self, value: Any) -> bool:
        """Whether a value can be validated without taking too long."""
        level, depth, visits = [value], 0, 0
        while level and (each := self._visits(depth)):
            characters = sum(len(node) for node in level if isinstance(node, str))
            visits += each * (len(level) + characters // _TEXT_PER_VISIT)
            if visits > MAX_VISITS or depth * self._size > MAX_STEPS:
                return False
            values = [child for node in level if isinstance(node, dict) for child in node.values()]
            level = values + [child for node in level if isinstance(node, list) for child in node]
            depth += 1
        return True

    def _visits(self, depth: int) -> int:
        """Return the most visits of one value at a depth."""
        while len(self._levels) <= depth:
            self._levels.append({at: place.deeper(self._levels[-1]) for at, place in self._places.items()})
        return self._levels[depth][self._start]

    def _explore(self, schema: Schema) -> int:
        """Add all places that can be reached from a schema; return the place of the schema itself."""
        start = self._target(schema)
        pending = [start]
        while pending:
            schema = pending.pop()
            if id(schema) in self._places:
                continue
            place = self._places[id(schema)] = _Place()
            for applied, times in self._in_place(schema):
                self._grow()
                place.visits = min(place.visits + times * _own(applied), MAX_VISITS)
                if not _BELOW.isdisjoint(applied):
                    pending += self._enter(place.below.setdefault(_tag(applied), _Below()), applied, times)
        return id(start)

    def _enter(self, below: _Below, schema: Schema, times: int) -> list[Schema]:
        """Add the places that a schema applies to the children of its value; return their schemas."""
        entered: list[Schema] = []

        def add(places: _Places, subschema: Any) -> None:
            if isinstance(subschema, dict):
                target = self._target(subschema)
                places[id(target)] = min(places.get(id(target), 0) + times, MAX_VISITS)
                self._grow()
                entered.append(target)

        for name, subschema in _entries(schema.get("properties")):
            add(below.keyed.setdefault(name, {}), subschema)
        items = schema.get("items")
        listed = items if isinstance(items, list) else schema.get("prefixItems")
        for index, subschema in enumerate(listed if isinstance(listed, list) else ()):
            add(below.keyed.setdefault(index, {}), subschema)
        for name in _OF_VALUES:
            add(below.values, schema.get(name))
        for _, subschema in _entries(schema.get("patternProperties")):
            add(below.values, subschema)
            below.values[_PATTERN_PLACE] = below.values.get(_PATTERN_PLACE, 0) + times
        for name in _OF_ITEMS:
            add(below.items, schema.get(name))
        return entered

    def _grow(self) -> None:
        self._size += 1
        if self._size > MAX_SIZE:
            raise ValueError("too many subschemas within one another; simplify the schema")

    def _in_place(self, schema: Schema) -> Iterator[tuple[Schema, int]]:
        """Yield the schemas that apply to the same value as a schema, and how often; each one before its targets."""
        if _LEADING_ON.isdisjoint(schema):
            yield schema, 1
            return
        times = {id(schema): 1}
        for applied in reversed(self._ordered(schema)):
            yield applied, times[id(applied)]
            # `unevaluated*` makes the validator apply its targets again, to find out what they have evaluated.
            repeats = 3 if "unevaluatedProperties" in applied or "unevaluatedItems" in applied else 1
            for target in self._targets(applied):
                times[id(target)] = min(times.get(id(target), 0) + repeats * times[id(applied)], MAX_VISITS)

    def _ordered(self, schema: Schema) -> list[Schema]:
        """Return the schemas that apply to the same value, each one after its targets. Raises on a cycle."""
        ordered: list[Schema] = []
        is_done: dict[int, bool] = {}
        stack = [(schema, iter(self._targets(schema)))]
        is_done[id(schema)] = False
        while stack:
            applied, targets = stack[-1]
            target = next(targets, None)
            if target is None:
                stack.pop()
                is_done[id(applied)] = True
                ordered.append(applied)
            elif id(target) not in is_done:
                is_done[id(target)] = False
                stack.append((target, iter(self._targets(target))))
                if len(is_done) > MAX_SIZE:
                    raise ValueError("too many subschemas within one another; simplify the schema")
            elif not is_done[id(target)]:
                raise ValueError("a $ref comes back to itself without going into the value")
        return ordered

    def _targets(self, schema: Schema) -> list[Schema]:
        """Return the schemas that a schema applies to its own value."""
        name = schema.get(self._id)
        if schema is not self._root and isinstance(name, str) and not name.startswith("#"):
            raise ValueError(f"{self._id} inside a schema is not supported; put all definitions under the root")
        subschemas = [each for name in _ALL if isinstance(schema.get(name), list) for each in schema[name]]
        subschemas += [schema[name] for name in _ONE if name in schema]
        subschemas += [each for name in _NAMED for _, each in _entries(schema.get(name))]
        targets = [each for each in subschemas if isinstance(each, dict)]
        for name in _REFERENCES:
            if isinstance(reference := schema.get(name), str):
                targets += self._resolve(reference)
        return targets

    def _target(self, schema: Schema) -> Schema:
        """Follow a schema that consists of a $ref only, so that its target is counted once."""
        for _ in range(MAX_CHAIN):
            if set(schema) != {"$ref"} or not isinstance(schema["$ref"], str):
                break
            targets = self._resolve(schema["$ref"])
            if len(targets) != 1:
                break
            schema = targets[0]
        return schema

    def _resolve(self, reference: str) -> list[Schema]:
        name = self._root.get(self._id)
        if isinstance(name, str) and name and reference.startswith(name):
            reference = reference.removeprefix(name) or "#"
        if not reference.startswith("#") or "%" in reference:
            raise ValueError(f"$ref to {reference[:80]!r}; write the definition into the schema")
        pointer = reference[1:]
        if pointer and not pointer.startswith("/"):
            return self._anchors.get(pointer, [])
        found: Any = self._root
        for escaped in pointer.split("/")[1:]:
            step = escaped.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(step)
            elif isinstance(found, list) and step.isdecimal() and int(step[:6]) < len(found):
                found = found[int(step[:6])]
            else:
                return []
        return [found] if isinstance(found, dict) else []

    def _find_anchors(self) -> None:
        pending: list[Any] = [self._root]
        while pending:
            node = pending.pop()
            if isinstance(node, list):
                pending += node
            elif isinstance(node, dict):
                pending += node.values()
                anchors = {node[name] for name in ("$anchor", "$dynamicAnchor") if isinstance(node.get(name), str)}
                if isinstance(name := node.get(self._id), str) and name.startswith("#"):
                    anchors.add(name[1:])
                for name in anchors:
                    self._anchors.setdefault(name, []).append(node)


def _sum(places: _Places, below: dict[int, int]) -> int:
    return sum(times * below[at] for at, times in places.items())


def _own(schema: Schema) -> int:
    """Return the cost in visits of a schema's own keywords, without its subschemas."""
    listed = sum(len(schema[name]) for name in _LISTED if isinstance(schema.get(name), dict | list))
    members = schema.get("enum")
    members = members if isinstance(members, list) else []
    types = set(map(type, members))
    slow = len(types) > 1 or not types <= {str, int}
    return 1 + listed // _LISTED_PER_VISIT + (_MEMBER * len(members) if slow else 0)


def _tag(schema: Schema) -> _Tag:
    """Return the first key that is required and has a constant. The validator compares that before anything else."""
    required = schema.get("required")
    for key, subschema in _entries(schema.get("properties")):
        constant = subschema.get("const") if isinstance(subschema, dict) else None
        if isinstance(constant, str) and isinstance(required, list) and key in required:
            return key, constant
    return None


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()
