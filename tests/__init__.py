"""Tests: one file a concern; `conftest.py` starts a whole server, `talk.py` speaks the wire."""
