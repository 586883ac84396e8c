"""Tests of `millrace.batches`."""
