"""JSON as text, before anybody needs its value."""

import msgspec


def is_json(text: str | bytes) -> bool:
    """Whether a text is JSON."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
