"""Unmodified coding agents do a scripted piece of work through Millrace: `python -m tests.agents`."""
