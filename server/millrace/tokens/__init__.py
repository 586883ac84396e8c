"""Counts of tokens, exact without a network: the encodings, where texts are cut, what tools become, and the counts."""

from millrace.tokens.counting import (
    LONG,
    MEDIA,
    MESSAGE,
    PIECE,
    REPLY,
    SPARSE,
    count,
    count_fixed,
    count_format,
    count_message,
    count_output,
    count_prompt,
    count_tools,
    estimate,
    running_output,
)
from millrace.tokens.encodings import CL100K, ESTIMATE, NAMES, O200K, encoding, encoding_of

__all__ = [
    "CL100K",
    "ESTIMATE",
    "LONG",
    "MEDIA",
    "MESSAGE",
    "NAMES",
    "O200K",
    "PIECE",
    "REPLY",
    "SPARSE",
    "count",
    "count_fixed",
    "count_format",
    "count_message",
    "count_output",
    "count_prompt",
    "count_tools",
    "encoding",
    "encoding_of",
    "estimate",
    "running_output",
]
