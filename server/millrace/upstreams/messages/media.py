"""Images and files -> content blocks of the Messages API. No I/O."""

import mimetypes
import re
from base64 import b64decode
from typing import Any

from millrace.errors import Rule, UpstreamError
from millrace.types import Media

_DATA = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_NO_AUDIO = "the Messages API of this model takes no audio; leave it out, or ask another model"


def source_of(part: Media) -> tuple[dict[str, Any], list[str]]:
    """Return the block of a part, and the names of its fields that have no place there.

    Raises `invalid_request` for a recording, which the API cannot hear.
    """
    fields = part.fields
    match part.kind:
        case "image":
            lost = ["detail"] if fields.get("detail", "auto") != "auto" else []
            return {"type": "image", "source": _source(fields, fields.get("url", ""))}, lost
        case "file":
            name = fields.get("filename")
            block: dict[str, Any] = {"type": "document", "source": _document(fields)}
            return block | ({"title": name} if name else {}), []
    rule = Rule(400, retry=False, type="invalid_request_error")
    raise UpstreamError("invalid_request", _NO_AUDIO, billable=False, rule=rule, cause="takes no audio")


def _source(fields: dict[str, str], url: str) -> dict[str, Any]:
    if file_id := fields.get("file_id"):
        return {"type": "file", "file_id": file_id}
    if (given := _DATA.match(url)) is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": given[1].lower(), "data": url[given.end() :]}


def _document(fields: dict[str, str]) -> dict[str, Any]:
    """Return the source of a document. Text goes as text, since in base64 only PDFs are taken."""
    data = fields.get("file_data")
    if data is None:
        return _source(fields, fields.get("file_url", ""))
    if _DATA.match(data) is None:  # base64 alone
        kind, _ = mimetypes.guess_type(fields.get("filename", ""))
        data = f"data:{kind or 'application/pdf'};base64,{data}"
    source = _source({}, data)
    if source["media_type"].startswith("text/"):
        try:
            return {"type": "text", "media_type": "text/plain", "data": b64decode(source["data"]).decode()}
        except ValueError:
            pass
    return source
