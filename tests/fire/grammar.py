"""What clients may say, as the server publishes it: frames of each WebSocket, requests of each operation over HTTP."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from tests.fire.shapes import WORDS, Shapes
from tests.fire.spoiling import spoiled, text_of

Document = dict[str, Any]

SOUND, SPOILED = 0.5, 0.85  # of frames: as the contract has them; and with a fault in them; the others are no JSON
LANES = ("a", "b", "c.d-e_f", "x" * 256)
MODELS = ("auto", "small", "large", "small-model", "gpt-4o", "")
EFFORTS = ("low", "high")
IDS_KEPT = 200
SAFE = ("",) * 9 + ("/",)  # characters of an id that are not quoted in a path


class Ids:
    """Ids that the server has given, to be named again."""

    def __init__(self) -> None:
        self._found: deque[str] = deque(["resp_0", "file-0", "batch_0", "no such", "../x", "%00", "é"], maxlen=IDS_KEPT)

    def learn(self, document: Any) -> None:
        """Keep the ids of a document and of what it lists."""
        if isinstance(document, dict):
            for each in (document, document.get("response"), *_listed(document)):
                if isinstance(each, dict) and isinstance(found := each.get("id"), str):
                    self._found.append(found)

    @property
    def known(self) -> list[str]:
        return [*self._found]


@dataclass(frozen=True, slots=True)
class Frame:
    """A text frame."""

    text: str
    is_sound: bool  # as the contract has it
    fields: Document  # of a sound one


class Frames:
    """Frames of clients, by the address of the WebSocket."""

    def __init__(self, document: Document, random: Random, ids: Ids) -> None:
        """`document` is the server's AsyncAPI document."""
        self._shapes = Shapes(document["components"]["schemas"], random)
        self._schemas: Document = document["components"]["schemas"]
        self._random = random
        self._ids = ids
        self._numbers = 0
        messages = document["components"]["messages"]
        self._payloads: dict[str, list[Document]] = {}
        for operation in document["operations"].values():
            if operation["action"] == "receive":
                channel = document["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
                names = [each["$ref"].rpartition("/")[2] for each in operation["messages"]]
                payloads = [messages[channel["messages"][name]["$ref"].rpartition("/")[2]]["payload"] for name in names]
                self._payloads.setdefault(channel["address"], []).extend(payloads)

    def next(self, address: str, epoch: str) -> Frame:
        """Return a frame for a WebSocket."""
        random = self._random
        payloads = self._payloads[address]
        payload = payloads[0] if random.random() < 0.5 else random.choice(payloads)
        self._numbers += 1
        known = {
            "stream_id": (*LANES, None),
            "event_id": (f"event-{self._numbers}",),
            "requestId": (f"request-{self._numbers}",),
            "response_id": self._ids.known,
            "previous_response_id": self._ids.known[-20:],
            "epoch": (epoch,),
            "model": MODELS,
            "effort": EFFORTS,
            "id": self._ids.known[-5:],
        }
        fields = self._shapes.made(payload, known)
        if address == "/v1/chat/ws" and fields.get("type") == "send":
            body = self._shapes.made(self._schemas["ResponseCreate"], known)
            fields["body"] = {name: body[name] for name in body if name not in ("type", "input", "stream_id")}
            fields["id"] = random.choice(LANES)
        chance = random.random()
        if chance < SOUND:
            return Frame(json.dumps(fields), True, fields)
        return Frame(text_of(spoiled(fields, random), random, 0.0 if chance < SPOILED else 1.0), False, {})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request over HTTP. `template` is the path as the contract writes it."""

    method: str
    template: str
    target: str
    headers: dict[str, str]
    body: bytes | None


class Requests:
    """Requests of each operation of the server's OpenAPI document."""

    def __init__(self, document: Document, random: Random, ids: Ids) -> None:
        self._shapes = Shapes(document["components"]["schemas"], random)
        self._random = random
        self._ids = ids
        self._operations = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    def next(self) -> Asked:
        """Return a request of any operation."""
        method, path, operation = self._random.choice(self._operations)
        random, query = self._random, dict[str, str]()
        target = path
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                odd = [*filter(None, WORDS), "%", "a/b", "x" * 4000]
                value = quote(
                    random.choice(self._ids.known if random.random() < 0.7 else odd), safe=random.choice(SAFE)
                )
                target = target.replace(f"{{{parameter['name']}}}", value)
            elif random.random() < 0.4:
                made = self._shapes.made(parameter["schema"])
                query[parameter["name"]] = str(random.choice((made, random.choice(WORDS), -1, 10**20, "é", "x" * 3000)))
        if query:
            target += "?" + urlencode(query)
        headers = self._headers()
        body: bytes | None = None
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            known = {"model": MODELS, "previous_response_id": self._ids.known[-20:], "input_file_id": self._ids.known}
            body = self._json(content["application/json"]["schema"], known)
            headers["Content-Type"] = random.choice(("application/json",) * 8 + ("text/plain", "x", ""))
        elif "multipart/form-data" in content:
            headers["Content-Type"], body = self._form()
        return Asked(method.upper(), path, target, headers, body)

    def _json(self, schema: Document, known: Mapping[str, Any]) -> bytes:
        fields, chance = self._shapes.made(schema, known), self._random.random()
        if chance >= SOUND:
            return text_of(spoiled(fields, self._random), self._random, 0.0 if chance < SPOILED else 1.0).encode(
                "utf-8", "surrogatepass"
            )
        return json.dumps(fields).encode()

    def _headers(self) -> dict[str, str]:
        random = self._random
        strange = {
            "anthropic-version": "2023-06-01",
            "traceparent": random.choice(("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-0-0-00", "x" * 2000)),
            "session-id": random.choice(("s", "x" * 5000)),
            "Origin": random.choice(("http://127.0.0.1", "null", "https://evil.example")),
            "Authorization": random.choice(("Bearer x", "Basic x", "")),
            "x-api-key": "mr_x",
            "Content-Encoding": random.choice(("identity", "gzip", "br", "gzip, gzip")),
            "Accept": "text/event-stream",
            "Last-Event-ID": "7",
        }
        return {name: value for name, value in strange.items() if random.random() < 0.04}

    def _form(self) -> tuple[str, bytes]:
        """Return a form with a file of requests, or what is nearly one."""
        random = self._random
        lines = [self._line(number) for number in range(random.randrange(4))]
        parts = [
            b'Content-Disposition: form-data; name="purpose"\r\n\r\n'
            + random.choice((b"batch", b"batch", b"x", b"\xff")),
            b'Content-Disposition: form-data; name="file"; filename="%b"\r\nContent-Type: application/jsonl\r\n\r\n'
            % random.choice((b"a.jsonl", b"", b"../../x", b"\xff\xfe", b"x" * 3000))
            + b"\n".join(lines),
            b'Content-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n'
            + random.choice((b"3600", b"-1", b"x", b"1e9")),
            b'Content-Disposition: form-data; name="unknown"\r\n\r\n' + b"x" * random.choice((0, 10, 100_000)),
            b"No-Disposition: 1\r\n\r\nx",
        ]
        chosen = parts[:2] + [part for part in parts[2:] if random.random() < 0.1]
        random.shuffle(chosen)
        edge = random.choice((b"edge", b"e" * 70, b"e" * 200, b"--"))
        body = b"".join(b"--%b\r\n%b\r\n" % (edge, part) for part in chosen) + b"--%b--\r\n" % edge
        if random.random() < 0.2:
            at = random.randrange(len(body))
            body = body[:at] + random.choice((b"", b"\r\n--", random.randbytes(3))) + body[at + random.randrange(9) :]
        kind = "multipart/form-data" + ("; boundary=" + edge.decode() if random.random() < 0.95 else "")
        return kind, body

    def _line(self, number: int) -> bytes:
        line = {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/responses",
            "body": {"model": "small", "input": "Hi [tokens=2]"},
        }
        if self._random.random() < 0.3:
            return text_of(spoiled(line, self._random), self._random).encode("utf-8", "surrogatepass")
        return json.dumps(line).encode()


def _listed(document: Document) -> list[Any]:
    data = document.get("data")
    return data if isinstance(data, list) else []
