"""JSON schemas of clients, compiled and applied in a process of their own."""

from millrace.schemas.process import SchemaProcess

__all__ = ["SchemaProcess"]
