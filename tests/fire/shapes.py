"""Values that a published JSON schema accepts, made at random: what a client that knows the wire may send."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

Schema = dict[str, Any]

WORDS = (
    "Hi",
    "What is the capital of France?",
    "small",
    "large",
    "auto",
    "user",
    "a",
    "sum",
    "Is 17 a prime number? [tokens=3]",
    "weak [weak] [tokens=4]",
    "über die Mühle, 水車, 🏞️",
    "\u202eright to left\u202c",
    "line\nline\ttab",
    "</script><b>",
    "%s %n {0} ${x}",
    "../../etc/passwd",
    "' OR 1=1 --",
    "1",
    "true",
    "null",
    "7d",
    "resp_0",
    "",
)
DEEPEST = 5  # levels below which only what is required is made
OFTEN, SELDOM = 0.25, 0.08  # how often an optional field is there: of a few, of many
MANY = 12  # fields
FIRST_ONE = 0.3  # how often the first of several shapes is taken: the common one

Known = Mapping[str, Sequence[Any]]  # values of fields that mean something to the server, by the field's name
NOTHING_KNOWN: Known = {}


class Shapes:
    """The schemas of one document, and values of them."""

    def __init__(self, schemas: Mapping[str, Schema], random: Random) -> None:
        """`schemas` are those of the document's components. All chance is `random`'s."""
        self._schemas = schemas
        self._random = random

    def made(  # noqa: PLR0911 - one for each kind of schema
        self, schema: Schema, known: Known = NOTHING_KNOWN, name: str = "", depth: int = 0
    ) -> Any:
        """Return a value of a schema. A field that is `known` mostly has one of those values, if they fit its type."""
        random = self._random
        if "$ref" in schema:
            return self.made(self._schemas[schema["$ref"].rpartition("/")[2]], known, name, depth)
        if "enum" in schema:
            return random.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self.made(self._one_of(schema[word], depth), known, name, depth)
        kinds = schema.get("type", "any")
        kind = kinds if isinstance(kinds, str) else random.choice(kinds)
        if kind == "object":
            return self._object(schema, known, depth)
        if kind == "array":
            return self._array(schema, known, name, depth)
        if name in known and random.random() < 0.8 and (fitting := _of_kind(known[name], kind)):
            return random.choice(fitting)
        return self._plain(kind, schema)

    def _one_of(self, shapes: list[Schema], depth: int) -> Schema:
        if depth > DEEPEST:  # the plainest one, so that it ends
            return min(shapes, key=lambda each: "$ref" in each or each.get("type") in ("array", "object"))
        return shapes[0] if self._random.random() < FIRST_ONE else self._random.choice(shapes)

    def _object(self, schema: Schema, known: Known, depth: int) -> dict[str, Any]:
        random, fields = self._random, schema.get("properties", {})
        required = schema.get("required", ())
        share = 0.0 if depth > DEEPEST else SELDOM if len(fields) > MANY else OFTEN
        names = [name for name in fields if name in required or random.random() < share]
        made = {name: self.made(fields[name], known, name, depth + 1) for name in names}
        further = schema.get("additionalProperties")
        if further and not fields and depth <= DEEPEST:
            shape = further if isinstance(further, dict) else {}
            made |= {
                random.choice(WORDS): self.made(shape, known, "", depth + 1) for _ in range(random.choice((0, 1, 3)))
            }
        return made

    def _array(self, schema: Schema, known: Known, name: str, depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", 4)
        count = least if depth > DEEPEST else self._random.randint(least, max(least, min(most, least + 3)))
        return [self.made(schema.get("items", {}), known, name, depth + 1) for _ in range(count)]

    def _plain(self, kind: str, schema: Schema) -> Any:
        random = self._random
        match kind:
            case "string":
                return self._text(schema)
            case "integer":
                least, most = schema.get("minimum", -1), schema.get("maximum", 10**6)
                return random.choice((least, most, random.randint(least, most), min(most, max(least, 16))))
            case "number":
                least, most = schema.get("minimum", 0), schema.get("maximum", 1000)
                return random.choice((least, most, random.uniform(least, most)))
            case "boolean":
                return random.random() < 0.5
            case "null":
                return None
            case _:
                return random.choice((None, True, 0, 1.5, "x", [], {}, {"a": [1, None]}, [[["deep"]]]))

    def _text(self, schema: Schema) -> str:
        random = self._random
        text = random.choice(WORDS)
        if random.random() < 0.2:
            text = " ".join(random.choice(WORDS) for _ in range(random.randrange(1, 12)))
        return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength", 10_000)]


def _of_kind(values: Sequence[Any], kind: str) -> list[Any]:
    shapes: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    kinds = shapes.get(kind, object)
    return [value for value in values if isinstance(value, kinds)]
