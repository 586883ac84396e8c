"""Requests and answers of chat completions."""
