"""Batches: files of requests that are run in their own time, beside and behind those of visitors. Does no I/O."""
