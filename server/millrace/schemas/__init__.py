"""JSON schemas of clients, compiled and applied in a process of their own."""

from millrace.schemas.process import MOST_BYTES, SchemaProcess

__all__ = ["MOST_BYTES", "SchemaProcess"]
