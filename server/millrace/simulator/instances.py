"""A small instance of a JSON schema: what is required, at the least length and number that it accepts."""

import math
from collections.abc import Callable
from typing import Any

from millrace.simulator.patterns import matching

WORD = "simulated"
FORMATS = {
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1H",
    "email": "miller@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
MOST = 10_000  # items or characters; a schema that asks for more gets as many

DEEP = 50  # references and alternatives, one within the other

Schema = dict[str, Any]
_APPLIED = ("$ref", "allOf", "anyOf", "oneOf")


def minimal(schema: Any) -> Any:
    """Return a small instance. Raises `AttributeError`, `TypeError`, `ValueError`, `LookupError` if it is no schema."""
    return _Maker(schema if isinstance(schema, dict) else {}).instance(schema, 0)


class _Maker:
    """Makes instances of one schema and of the parts that it refers to."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def instance(self, schema: Any, number: int) -> Any:
        """Return an instance; those of different numbers differ where the schema allows it."""
        if not isinstance(schema, dict):
            return WORD if schema is not False else None  # `true` accepts anything
        schema = self._flat(schema)
        if "const" in schema:
            return schema["const"]
        if values := schema.get("enum"):
            return values[number % len(values)]
        return _BUILDERS.get(_type(schema), _Maker._string)(self, schema, number)

    def _flat(self, schema: Schema) -> Schema:
        """Return a schema with what it refers to, all of `allOf`, and the first of `anyOf` or `oneOf` merged in."""
        for _ in range(DEEP):
            parts = [self._referred(schema["$ref"])] if "$ref" in schema else []
            parts += schema.get("allOf", [])
            parts += [schema[key][0] for key in ("anyOf", "oneOf") if schema.get(key)]
            if not parts:
                return schema
            schema = {key: value for key, value in schema.items() if key not in _APPLIED}
            for part in parts:
                schema = _merged(schema, part)
        raise ValueError("the schema refers to itself")

    def _referred(self, reference: str) -> Schema:
        found: Any = self._root
        for key in reference.removeprefix("#").split("/")[1:]:
            key = key.replace("~1", "/").replace("~0", "~")  # noqa: PLW2901 - RFC 6901
            found = found[int(key)] if isinstance(found, list) else found.get(key, {})
        return found if isinstance(found, dict) else {}

    def _object(self, schema: Schema, _number: int) -> Any:
        properties = schema.get("properties", {})
        names = dict.fromkeys(schema.get("required", ()))
        candidates = iter([*properties, *(f"{WORD}_{number}" for number in range(MOST))])
        while len(names) < min(schema.get("minProperties", 0), MOST):
            names[next(candidates)] = None
        others = schema.get("additionalProperties", True)
        return {name: self.instance(properties.get(name, others), number) for number, name in enumerate(names)}

    def _array(self, schema: Schema, _number: int) -> Any:
        first = schema.get("prefixItems", ())
        contained = [schema["contains"]] * schema.get("minContains", 1) if "contains" in schema else []
        length = min(max(schema.get("minItems", 0), len(contained)), MOST)
        rest = schema.get("items", True)
        shapes = [*first[:length], *contained][: max(length, len(contained))]
        shapes += [rest] * (length - len(shapes))
        return [self.instance(shape, number) for number, shape in enumerate(shapes)]

    def _string(self, schema: Schema, number: int) -> Any:
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        text = f"{WORD} {number + 1}" if number else WORD
        if schema.get("format") in FORMATS:
            text = FORMATS[schema["format"]]
        elif "pattern" in schema and (found := matching(schema["pattern"], least)) is not None:
            return found
        if len(text) < least:
            text += "." * int(min(least - len(text), MOST))
        return text if len(text) <= most else text[-int(most) :] if most else ""

    def _number(self, schema: Schema, number: int) -> Any:
        return _number(schema, schema.get("multipleOf"), number)

    def _integer(self, schema: Schema, number: int) -> Any:
        step = schema.get("multipleOf", 1)
        return int(_number(schema, step if step == int(step) else 1, number))


_BUILDERS: dict[str, Callable[[_Maker, Schema, int], Any]] = {
    "object": _Maker._object,
    "array": _Maker._array,
    "string": _Maker._string,
    "number": _Maker._number,
    "integer": _Maker._integer,
    "boolean": lambda _maker, _schema, number: number % 2 == 0,
    "null": lambda _maker, _schema, _number: None,
}


def _type(schema: Schema) -> str:
    guess = "object" if "properties" in schema else "array" if "items" in schema or "minItems" in schema else "string"
    declared = schema.get("type", guess)
    return str(declared[0] if isinstance(declared, list) and declared else declared)


def _merged(one: Schema, other: Any) -> Schema:
    if not isinstance(other, dict):  # `true`
        return one
    merged = one | other
    for key in ("properties", "required"):
        if key in one and key in other:
            merged[key] = one[key] | other[key] if key == "properties" else [*one[key], *other[key]]
    return merged


def _number(schema: Schema, step: float | None, number: int) -> float:
    """Return the accepted number that is nearest to 0, and `number` steps more for later ones."""
    least, over_least = _bound(schema, "minimum", "exclusiveMinimum", -math.inf)
    most, under_most = _bound(schema, "maximum", "exclusiveMaximum", math.inf)
    by = step or min(1.0, (most - least) / 4) or 1.0
    start: float = 0
    if least > 0 or (least == 0 and over_least):
        start = math.ceil(least / by) * by if step else least
        start += by if over_least and start <= least else 0
    elif most < 0 or (most == 0 and under_most):
        start = math.floor(most / by) * by if step else most
        start -= by if under_most and start >= most else 0
    moved = start + number * by
    return start if not number else moved if moved < most else start - number * by


def _bound(schema: Schema, key: str, exclusive_key: str, default: float) -> tuple[float, bool]:
    """Return a bound, and whether the number itself is excluded: by a number, or by `true` as in draft 4."""
    bound, exclusive = schema.get(key, default), schema.get(exclusive_key, False)
    if isinstance(exclusive, bool):
        return bound, exclusive
    is_tighter = exclusive >= bound if default < 0 else exclusive <= bound
    return (exclusive, True) if is_tighter else (bound, False)
