"""Tests of the upstream that speaks the Responses API."""
