"""Millrace leads each LLM request to the cheapest answer that is good enough."""

__version__ = "0.1.0"
