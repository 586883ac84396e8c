"""One string for all text deltas that are equal; alone, each takes 60 bytes."""

SHORT = 16  # characters of a delta that is likely to come again
MAX_KNOWN = 10_000  # such deltas

known: dict[str, str] = {}


def remembered(text: str) -> str:
    """Return a text that is not known yet, and know it from now on."""
    if len(known) >= MAX_KNOWN:
        known.clear()
    known[text] = text
    return text
