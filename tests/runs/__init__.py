"""Responses that are kept: runs, conversations, sweeping."""
