"""Batches from the terminal: a file of requests goes in, a file of answers comes out."""
