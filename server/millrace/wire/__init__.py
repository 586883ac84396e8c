"""Encodes and decodes frames and HTTP bodies. No I/O. The server and the Python client share it."""
