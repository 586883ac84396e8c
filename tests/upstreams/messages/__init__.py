"""Requests and answers of the Messages API."""
