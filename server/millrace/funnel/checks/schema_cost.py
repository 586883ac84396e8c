"""How much work a JSON schema makes of an answer, known before the work is done. Pure.

The work is counted in visits: one schema looking at one value. Where subschemas look at the same value again and again
their number grows with a power of the schema's length, so nobody may validate first and look at the clock later.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_VISITS = 3_000_000  # of one validation: about 50 ms
MAX_OF_ONE = 300_000  # visits of one value and one below it, and so on, at a usual depth
USUAL_DEPTH = 4
MAX_SIZE = 20_000  # subschemas, counted once for each place where they look
MAX_STEPS = 200_000  # of reckoning: so many levels of an answer times the size of a schema that goes on for ever
MAX_CHAIN = 64  # of references that do nothing but refer

_ALL = ("allOf", "anyOf", "oneOf")  # lists of what looks at the same value
_ONE = ("not", "if", "then", "else")
_NAMED = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OF_VALUES = ("additionalProperties", "unevaluatedProperties", "propertyNames")  # look at any value of an object
_OF_ITEMS = ("items", "additionalItems", "unevaluatedItems", "contains")
_BELOW = {"properties", "prefixItems", "patternProperties", *_OF_VALUES, *_OF_ITEMS}
_LEADING_ON = {*_ALL, *_ONE, *_NAMED, *_REFERENCES, *_BELOW, "$id", "id"}
_LISTED = ("properties", "required", "dependentRequired")  # gone through one by one, quickly:
_LISTED_PER_VISIT = 4
_MEMBER = 30  # visits that it takes to compare a value with one of an enum that is not all of one simple type
_PATTERN = 4  # visits that it takes to try one pattern of a key
_WORDS = 100  # characters that take as long as a value
_TRIED = 0  # the place of a pattern of a key

Schema = dict[str, Any]
_Places = dict[int, int]  # how often each place looks
_Tag = tuple[str, str] | None  # a key and what it must hold: of schemas with different ones only one looks further


@dataclass(slots=True)
class _Below:
    """What looks at the values within a value."""

    keyed: dict[str | int, _Places] = field(default_factory=dict)  # at that of a key, or an index
    values: _Places = field(default_factory=dict)  # at every value of an object
    items: _Places = field(default_factory=dict)  # at every item of an array

    def visits(self, below: dict[int, int]) -> int:
        """Return how often one value is looked at, at most; `below`: how often one is by each place."""
        values, items = _sum(self.values, below), _sum(self.items, below)
        keyed = (_sum(at, below) + (values if isinstance(key, str) else items) for key, at in self.keyed.items())
        return max(values, items, max(keyed, default=0))


@dataclass(slots=True)
class _Place:
    """A schema as a value meets it, with all that looks at the same value."""

    visits: int = 0
    below: dict[_Tag, _Below] = field(default_factory=dict)

    def deeper(self, below: dict[int, int]) -> int:
        """Return how often a value is looked at one level further down than `below` knows."""
        most: dict[str, int] = {}
        for tag, side in self.below.items():
            key = tag[0] if tag else ""
            most[key] = max(most.get(key, 0), side.visits(below))
        return min(sum(most.values()), MAX_VISITS)


class SchemaCost:
    """The work of one schema. Raises ValueError where it cannot be known, or is too much for any usual answer."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._id = "id" if "draft-04" in str(schema.get("$schema")) else "$id"
        self._anchors: dict[str, list[Schema]] = {}
        self._find_anchors()
        self._places: dict[int, _Place] = {_TRIED: _Place(_PATTERN)}
        self._size = 0
        self._first = self._explore(schema)
        self._levels = [{at: place.visits for at, place in self._places.items()}]
        if sum(map(self._visits, range(USUAL_DEPTH + 1))) > MAX_OF_ONE:
            raise ValueError("its alternatives multiply; write fewer $ref, allOf, anyOf and oneOf within one another")

    def allows(self, value: Any) -> bool:
        """Whether a value can be validated without taking too long."""
        level, depth, visits = [value], 0, 0
        while level and (each := self._visits(depth)):
            words = sum(len(node) for node in level if isinstance(node, str))
            visits += each * (len(level) + words // _WORDS)
            if visits > MAX_VISITS or depth * self._size > MAX_STEPS:
                return False
            values = [one for node in level if isinstance(node, dict) for one in node.values()]
            level = values + [one for node in level if isinstance(node, list) for one in node]
            depth += 1
        return True

    def _visits(self, depth: int) -> int:
        """Return how often a value so many levels down is looked at, at most."""
        while len(self._levels) <= depth:
            self._levels.append({at: place.deeper(self._levels[-1]) for at, place in self._places.items()})
        return self._levels[depth][self._first]

    def _explore(self, schema: Schema) -> int:
        """Find all places that can be reached from a schema; return the place of the schema itself."""
        first = self._target(schema)
        due = [first]
        while due:
            schema = due.pop()
            if id(schema) in self._places:
                continue
            place = self._places[id(schema)] = _Place()
            for looking, times in self._in_place(schema):
                self._grow()
                place.visits = min(place.visits + times * _own(looking), MAX_VISITS)
                if not _BELOW.isdisjoint(looking):
                    due += self._enter(place.below.setdefault(_tag(looking), _Below()), looking, times)
        return id(first)

    def _enter(self, below: _Below, schema: Schema, times: int) -> list[Schema]:
        """Add what a schema makes look at the values within its value; return those schemas."""
        entered: list[Schema] = []

        def add(places: _Places, given: Any) -> None:
            if isinstance(given, dict):
                target = self._target(given)
                places[id(target)] = min(places.get(id(target), 0) + times, MAX_VISITS)
                self._grow()
                entered.append(target)

        for name, given in _entries(schema.get("properties")):
            add(below.keyed.setdefault(name, {}), given)
        items = schema.get("items")
        listed = items if isinstance(items, list) else schema.get("prefixItems")
        for index, given in enumerate(listed if isinstance(listed, list) else ()):
            add(below.keyed.setdefault(index, {}), given)
        for name in _OF_VALUES:
            add(below.values, schema.get(name))
        for _, given in _entries(schema.get("patternProperties")):
            add(below.values, given)
            below.values[_TRIED] = below.values.get(_TRIED, 0) + times
        for name in _OF_ITEMS:
            add(below.items, schema.get(name))
        return entered

    def _grow(self) -> None:
        self._size += 1
        if self._size > MAX_SIZE:
            raise ValueError("too many subschemas within one another")

    def _in_place(self, schema: Schema) -> Iterator[tuple[Schema, int]]:
        """Yield all that looks at the same value as a schema, and how often; what refers comes before its target."""
        if _LEADING_ON.isdisjoint(schema):
            yield schema, 1
            return
        times = {id(schema): 1}
        for one in reversed(self._ordered(schema)):
            yield one, times[id(one)]
            again = 3 if "unevaluatedProperties" in one or "unevaluatedItems" in one else 1  # to know what is evaluated
            for target in self._beside(one):
                times[id(target)] = min(times.get(id(target), 0) + again * times[id(one)], MAX_VISITS)

    def _ordered(self, schema: Schema) -> list[Schema]:
        """Return all that looks at the same value, targets before what refers to them."""
        ordered: list[Schema] = []
        state: dict[int, bool] = {}  # whether it is done
        stack = [(schema, iter(self._beside(schema)))]
        state[id(schema)] = False
        while stack:
            one, targets = stack[-1]
            target = next(targets, None)
            if target is None:
                stack.pop()
                state[id(one)] = True
                ordered.append(one)
            elif id(target) not in state:
                state[id(target)] = False
                stack.append((target, iter(self._beside(target))))
                if len(state) > MAX_SIZE:
                    raise ValueError("too many subschemas within one another")
            elif not state[id(target)]:
                raise ValueError("a $ref comes back to itself without going into the value")
        return ordered

    def _beside(self, schema: Schema) -> list[Schema]:
        """Return the schemas that look at the same value because this one does."""
        name = schema.get(self._id)
        if schema is not self._root and isinstance(name, str) and not name.startswith("#"):
            raise ValueError(f"{self._id} inside a schema; write its definitions into one")
        given = [one for name in _ALL if isinstance(schema.get(name), list) for one in schema[name]]
        given += [schema[name] for name in _ONE if name in schema]
        given += [one for name in _NAMED for _, one in _entries(schema.get(name))]
        targets = [one for one in given if isinstance(one, dict)]
        for name in _REFERENCES:
            if isinstance(reference := schema.get(name), str):
                targets += self._resolve(reference)
        return targets

    def _target(self, schema: Schema) -> Schema:
        """Return what a schema that does nothing but refer refers to, so that it is counted once."""
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
        due: list[Any] = [self._root]
        while due:
            one = due.pop()
            if isinstance(one, list):
                due += one
            elif isinstance(one, dict):
                due += one.values()
                named = {one[name] for name in ("$anchor", "$dynamicAnchor") if isinstance(one.get(name), str)}
                if isinstance(name := one.get(self._id), str) and name.startswith("#"):
                    named.add(name[1:])
                for name in named:
                    self._anchors.setdefault(name, []).append(one)


def _sum(places: _Places, below: dict[int, int]) -> int:
    return sum(times * below[at] for at, times in places.items())


def _own(schema: Schema) -> int:
    """Return the visits that a schema's own keywords take, those with subschemas left out."""
    listed = sum(len(schema[name]) for name in _LISTED if isinstance(schema.get(name), dict | list))
    members = schema.get("enum")
    members = members if isinstance(members, list) else []
    types = set(map(type, members))
    slow = len(types) > 1 or not types <= {str, int}
    return 1 + listed // _LISTED_PER_VISIT + (_MEMBER * len(members) if slow else 0)


def _tag(schema: Schema) -> _Tag:
    """Return the first key that must be there and hold one value; the validator looks at that before all else."""
    required = schema.get("required")
    for key, given in _entries(schema.get("properties")):
        constant = given.get("const") if isinstance(given, dict) else None
        if isinstance(constant, str) and isinstance(required, list) and key in required:
            return key, constant
    return None


def _entries(given: Any) -> Iterable[tuple[str, Any]]:
    return given.items() if isinstance(given, dict) else ()
