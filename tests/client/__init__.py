"""The Python client and its load test."""
